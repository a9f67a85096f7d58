//! The page in a real browser: drawn, in both colour schemes, without an error, and moved through by keyboard.
//!
//! Takes the browser that SNPKIT_CHROMIUM names, or one on the path; says that it was skipped if there is none.

mod sample;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use snp_html::render;

const WIDTH: u32 = 1100;
const HEIGHT: u32 = 1400;

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("SNPKIT_CHROMIUM").map(PathBuf::from);
    let names = ["chromium-headless-shell", "chromium", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        names
            .iter()
            .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
            .find(|path| path.is_file())
    };
    let found = named.or_else(on_path);
    if found.is_none() {
        eprintln!("skipped: no headless Chromium; on Debian: apt-get install chromium-headless-shell");
    }
    found
}

fn run(browser: &Path, page: &Path, options: &[String]) -> Output {
    let profile = page.parent().expect("a directory").join("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={WIDTH},{HEIGHT}"))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser runs");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    // What the page's script or style does wrong is told as a console message.
    assert!(!log.contains("CONSOLE"), "{log}");
    output
}

/// The picture: pixels by colour, and the colour of the upper left corner.
fn picture(browser: &Path, page: &Path, dark: bool) -> (HashMap<[u8; 3], usize>, [u8; 3]) {
    let file = page.with_extension("png");
    let scheme = if dark { 0 } else { 1 };
    run(
        browser,
        page,
        &[format!("--screenshot={}", file.display()), format!("--blink-settings=preferredColorScheme={scheme}")],
    );
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&file).expect("a screenshot")));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    let info = reader.next_frame(&mut pixels).expect("a picture");
    assert_eq!((info.width, info.height), (WIDTH, HEIGHT));
    let channels = info.color_type.samples();
    let mut colours: HashMap<[u8; 3], usize> = HashMap::new();
    for pixel in pixels[..info.buffer_size()].chunks_exact(channels) {
        *colours.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
    }
    (colours, [pixels[0], pixels[1], pixels[2]])
}

fn rgb(text: &str) -> [u8; 3] {
    let channel = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("a colour");
    [channel(1), channel(3), channel(5)]
}

/// `--name: #rrggbb` of the style sheet, light and dark.
fn colours(name: &str) -> [[u8; 3]; 2] {
    let style = include_str!("../src/style.css");
    let found: Vec<_> = style
        .match_indices(&format!("--{name}: #"))
        .map(|(at, text)| rgb(&style[at + text.len() - 1..][..7]))
        .collect();
    found.try_into().expect("light and dark")
}

#[test]
fn the_page_is_drawn_in_light_and_dark() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("page.html");
    std::fs::write(&page, render(&sample::document())).expect("written");
    for dark in [false, true] {
        let (pixels, corner) = picture(&browser, &page, dark);
        let scheme = usize::from(dark);
        assert_eq!(corner, colours("page")[scheme], "the background");
        // Every page type of the sample is drawn as an area, in its colour: more than its legend alone takes (20 x 20).
        for name in ["normal", "zero", "vmsa", "secrets", "cpuid", "unmeasured"] {
            let area = pixels.get(&colours(name)[scheme]).copied().unwrap_or_default();
            assert!(area > 500, "{name}, dark {dark}: {area} pixels");
        }
        let normal = pixels[&colours("normal")[scheme]];
        assert!(normal > 20_000, "the firmware is the largest block: {normal} pixels");
    }
}

#[test]
fn the_map_is_moved_through_by_keyboard() {
    let Some(browser) = browser() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("page.html");
    // A copy of the page with a script of the test's behind it.
    let keys = r##"<script>
        const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        const seen = [];
        const note = () => seen.push(document.getElementById("block").textContent);
        document.querySelector(".block").focus(); note();
        press("ArrowRight"); note();
        press("End"); note();
        press("ArrowRight"); note();
        press("Home"); note();
        const stops = [...document.querySelectorAll(".block")].filter((block) => block.tabIndex === 0).length;
        const filter = document.querySelector("[data-filter]");
        filter.value = "rip"; filter.dispatchEvent(new Event("input"));
        const rows = document.querySelectorAll("#vmsa-table-0 tbody tr:not([hidden])").length;
        document.body.dataset.seen = seen.join("|");
        document.body.dataset.numbers = `${stops} ${rows}`;
    </script></body>"##;
    std::fs::write(&page, render(&sample::document()).replace("</body>", keys)).expect("written");
    let output = run(&browser, &page, &["--dump-dom".to_owned()]);
    let dom = String::from_utf8_lossy(&output.stdout);
    let seen = dom.split("data-seen=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the script ran");
    let seen: Vec<&str> = seen.split('|').collect();
    assert!(seen[0].starts_with("zero 0x800000"), "{seen:?}");
    assert!(seen[1].starts_with("secrets 0x80d000"), "{seen:?}");
    assert!(seen[2].starts_with("normal 0xffc00000"), "{seen:?}");
    assert_eq!(seen[3], seen[2], "nothing after the last");
    assert_eq!(seen[4], seen[0]);
    assert!(dom.contains("data-numbers=\"1 1\""), "one stop for Tab; one field called rip");
}
