//! The page types as the page shows them: a letter and a pattern beside the colour, so that the colour is never alone.

use std::fmt;

use crate::escape::Text;

/// A page type. Its colour and its pattern are in `page.css`, by its class.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// As in `Block::page_type`; the class is `t-` and this.
    pub(crate) name: &'static str,
    pub(crate) letter: char,
    pub(crate) meaning: &'static str,
}

/// All of them, in the order of the legend. The last one is for words that we do not know.
pub(crate) const KINDS: [Kind; 8] = [
    Kind { name: "normal", letter: 'N', meaning: "loaded with data, which is measured" },
    Kind { name: "zero", letter: 'Z', meaning: "zeroed by the firmware; that it is zero is measured" },
    Kind { name: "vmsa", letter: 'V', meaning: "a processor\u{2019}s initial state, measured" },
    Kind { name: "secrets", letter: 'S', meaning: "filled by the firmware with keys" },
    Kind { name: "cpuid", letter: 'C', meaning: "CPUID values that the firmware checks" },
    Kind { name: "unmeasured", letter: 'U', meaning: "loaded with data that is not measured" },
    Kind { name: "memory", letter: 'M', meaning: "guest memory that nothing was loaded into" },
    Kind { name: "other", letter: '?', meaning: "another page type" },
];

/// Memory that nothing was loaded into.
pub(crate) const MEMORY: &Kind = &KINDS[6];

pub(crate) fn kind(page_type: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == page_type).unwrap_or(&KINDS[7])
}

/// A page type in a line of text: a swatch with the letter, and the word.
pub(crate) struct Tag<'a>(pub(crate) &'a str);

impl fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = kind(self.0);
        let Kind { name, letter, .. } = kind;
        write!(f, "<span class=\"k t-{name}\" aria-hidden=\"true\"><i>{letter}</i></span>{}", Text(self.0))
    }
}
