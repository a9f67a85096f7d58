//! The sample page in a real browser: what is seen in light and dark, what the keyboard does, what the console says.
//!
//! The browser is the one that `SNPKIT_CHROMIUM` names, or the first of `NAMES` on the path. Without one these tests say so
//! and pass, unless `SNPKIT_REQUIRE_CHROMIUM` is set.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snp_html::{Block, Document, render};

#[allow(dead_code, reason = "the example's main")]
#[path = "../examples/sample.rs"]
mod sample;

const NAMES: [&str; 5] =
    ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Far more than a page takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TYPES: [&str; 7] = ["normal", "zero", "vmsa", "secrets", "cpuid", "unmeasured", "memory"];

/// Nothing if there is no browser and none is required.
fn browser() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SNPKIT_CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = NAMES
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        let reason = format!("no browser: SNPKIT_CHROMIUM is not set, and none of {NAMES:?} is on the path");
        assert!(std::env::var_os("SNPKIT_REQUIRE_CHROMIUM").is_none(), "{reason}");
        println!("not tested: {reason}");
    }
    found
}

/// What a visit to a page left.
struct Visit {
    /// The page as it was at the end.
    dom: String,
    /// What the browser logged, the page's console among it.
    log: String,
}

impl Visit {
    fn console(&self) -> Vec<&str> {
        self.log.lines().filter(|line| line.contains("CONSOLE")).collect()
    }

    /// What a planted script left in `data-result`.
    fn result(&self) -> &str {
        let start =
            self.dom.find("data-result=\"").expect("the planted script ran to its end") + "data-result=\"".len();
        self.dom[start..].split('"').next().expect("a quote")
    }
}

/// A place for one test's files.
struct Desk {
    browser: PathBuf,
    place: PathBuf,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        let browser = browser()?;
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("a directory for the test's files");
        Some(Self { browser, place })
    }

    fn visit(&self, page: &str, options: &[&str]) -> Visit {
        let file = self.place.join("page.html");
        fs::write(&file, page).expect("the page is written");
        let [dom, log] = ["dom.html", "log.txt"].map(|name| self.place.join(name));
        let create = |file: &Path| Stdio::from(fs::File::create(file).expect("a file for output"));
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(self.place.join("profile"));
        let mut child = Command::new(&self.browser)
            // The sandbox needs what containers and root do not have, and the page is our own.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args(["--force-device-scale-factor=1", "--force-color-profile=srgb", "--enable-logging=stderr"])
            .arg(profile)
            .args(options)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(create(&dom))
            .stderr(create(&log))
            .spawn()
            .expect("the browser starts");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the browser can be waited for") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().expect("the browser can be ended");
                panic!("the browser did not end by itself");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let [dom, log] = [dom, log].map(|file| String::from_utf8_lossy(&fs::read(file).expect("output")).into_owned());
        assert!(status.success(), "{status}\n{log}");
        Visit { dom, log }
    }

    /// A picture of a page, without a word on the console.
    fn picture(&self, page: &str, options: &[&str]) -> Picture {
        let file = self.place.join("picture.png");
        let screenshot = format!("--screenshot={}", file.display());
        let visit = self.visit(page, &[&["--window-size=1280,3600", &screenshot], options].concat());
        assert_eq!(visit.console(), [""; 0]);
        Picture::read(&file)
    }

    /// Runs a script in a copy of a page, after the page's own; its value is the visit's result.
    ///
    /// A page that is loaded before its window has the focus has none either: nothing matches `:focus` there. So the script
    /// waits for it, in virtual time, which passes as fast as the browser idles and holds back the output meanwhile.
    fn script(&self, page: &str, script: &str, options: &[&str]) -> Visit {
        let planted = format!(
            r##"<script>
            const planted = () => {{ {script} }};
            const once_focused = () => {{
                if (document.hasFocus()) document.documentElement.dataset.result = planted();
                else setTimeout(once_focused, 10);
            }};
            once_focused();
            </script>"##
        );
        let (before, after) = page.rsplit_once("</body>").expect("a body");
        let wait = ["--dump-dom", "--virtual-time-budget=600000"];
        self.visit(&format!("{before}{planted}</body>{after}"), &[&wait, options].concat())
    }
}

struct Picture {
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn read(file: &Path) -> Self {
        let mut decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(file).expect("the screenshot")));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut bytes).expect("a picture");
        let samples = info.color_type.samples();
        assert!(samples >= 3, "colours");
        let pixels =
            bytes[..info.buffer_size()].chunks_exact(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Self { pixels }
    }

    fn count(&self, colour: [u8; 3]) -> usize {
        self.pixels.iter().filter(|pixel| pixel.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) <= 2)).count()
    }

    /// Mean of the picture, 0 to 1. Most of a page is background.
    fn luminance(&self) -> f64 {
        let sum: f64 = self
            .pixels
            .iter()
            .map(|&[r, g, b]| (0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)) / 255.0)
            .sum();
        sum / self.pixels.len() as f64
    }
}

/// A colour of the page's style, light and dark.
fn colours(page: &str, name: &str) -> [[u8; 3]; 2] {
    let definition = format!("--{name}: #");
    let mut found = page.match_indices(&definition).map(|(at, matched)| {
        let hex = &page[at + matched.len()..][..6];
        [0, 2, 4].map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a colour"))
    });
    [found.next().expect("light"), found.next().expect("dark")]
}

/// Pixels of the plain colour that a page type must have: legend and chain swatches at the least, and its share of the map.
fn least(page_type: &str) -> usize {
    match page_type {
        // Nearly the whole bar of the firmware volume, 1152 by 52 pixels.
        "normal" => 45_000,
        // 28 of the 32 pages of the other cluster; the dots take their share.
        "zero" => 15_000,
        // One page of 32.
        "secrets" | "cpuid" | "unmeasured" => 1_200,
        // A flag and swatches.
        "vmsa" => 600,
        // A dashed outline around half of the overview.
        _ => 300,
    }
}

#[test]
fn the_map_is_drawn_in_light_and_dark() {
    let Some(desk) = Desk::new("pictures") else { return };
    let page = render(&sample::sample());
    // 0 is dark and 1 is light. Other switches (--force-dark-mode) change the browser's own look, not the preference.
    let [light, dark] =
        [1, 0].map(|scheme| desk.picture(&page, &[&format!("--blink-settings=preferredColorScheme={scheme}")]));
    assert!(light.luminance() > 0.85, "{}", light.luminance());
    assert!(dark.luminance() < 0.25, "{}", dark.luminance());
    for (mode, picture) in [&light, &dark].into_iter().enumerate() {
        let background = picture.count(colours(&page, "page")[mode]);
        assert!(background > picture.pixels.len() / 2, "mode {mode}: {background} pixels of background");
        for page_type in TYPES {
            let colour = colours(&page, page_type);
            let (own, other) = (picture.count(colour[mode]), picture.count(colour[1 - mode]));
            println!("mode {mode}: {own} pixels {page_type}, {other} of the other mode");
            assert!(own >= least(page_type), "mode {mode}: {own} pixels {page_type}");
            assert!(other < own / 4, "mode {mode}: {other} pixels of the other mode's {page_type}");
        }
    }
}

#[test]
fn the_map_is_drawn_without_javascript() {
    let Some(desk) = Desk::new("no-script") else { return };
    let page = render(&sample::sample());
    // The browser takes its pictures by script, so it is the page that goes without.
    let (before, script) = page.split_once("<script>").expect("the script");
    let (_, after) = script.split_once("</script>").expect("the script's end");
    let page = format!("{before}{after}");
    let picture = desk.picture(&page, &["--blink-settings=preferredColorScheme=1"]);
    for page_type in TYPES {
        assert!(picture.count(colours(&page, page_type)[0]) >= least(page_type), "{page_type}");
    }
    // Nothing is offered that would not work.
    let offered = page.matches("js\"").count() - page.matches("js\" hidden").count();
    assert_eq!(offered, 0);
}

#[test]
fn the_keyboard_moves_through_the_map() {
    let Some(desk) = Desk::new("keyboard") else { return };
    let page = render(&sample::sample());
    let visit = desk.script(
        &page,
        r##"
        const seen = [];
        const see = () => seen.push(document.activeElement.id.replace("block-", ""));
        const press = (key, more) => {
            const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
            document.activeElement.dispatchEvent(event);
            see();
        };
        document.querySelector(".map .b").focus(); see();
        for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "ArrowUp", "ArrowDown", "Home"]) press(key);
        press("ArrowRight", { ctrlKey: true });
        press("x");
        const stops = document.querySelectorAll(".map .b[tabindex='0']").length;
        document.getElementById("block-4").focus();
        const style = getComputedStyle(document.activeElement, "::after");
        const box = document.activeElement.getBoundingClientRect();
        const follow = () => {
            document.activeElement.click();
            return location.hash + " " + document.querySelector(":target th").textContent;
        };
        return [seen.join(" "), stops, style.position, style.content.replaceAll('"', ""), style.left, style.bottom,
            style.width === innerWidth + "px", box.width > 20, follow()].join("|");
        "##,
        &[],
    );
    assert_eq!(visit.console(), [""; 0]);
    let result: Vec<_> = visit.result().split('|').collect();
    // Blocks 0 and 9 are memory, in the overview; 1 to 8 are the first cluster and 10 and 11 the second.
    assert_eq!(result[0], "0 1 2 1 11 11 1 10 0 0 0");
    assert_eq!(result[1], "1", "one stop for Tab");
    assert_eq!(result[2], "fixed");
    assert_eq!(
        result[3],
        "0x80d000\u{2013}0x80dfff, 4\u{a0}KiB (1\u{a0}page), secrets: secrets page".replace('\u{a0}', "&nbsp;")
    );
    assert_eq!(result[4..], ["0px", "0px", "true", "true", "#row-11 0x80d000\u{2013}0x80dfff"]);
}

#[test]
fn the_filter_filters() {
    let Some(desk) = Desk::new("filter") else { return };
    let visit = desk.script(
        &render(&sample::sample()),
        r##"
        const filter = document.getElementById("filter");
        const type = (text) => {
            filter.value = text;
            filter.dispatchEvent(new Event("input", { bubbles: true }));
            const rows = [...document.querySelectorAll(".fields tbody tr")].filter((row) => row.offsetHeight > 0);
            return rows.length + " " + document.querySelector(".filter output").textContent;
        };
        const copies = [...document.querySelectorAll("button.copy")].filter((button) => button.offsetHeight > 0).length;
        return [type(""), type("DIFFERS"), type("0x148 mce"), type("no such field"), copies].join("|");
        "##,
        &[],
    );
    assert_eq!(visit.console(), [""; 0]);
    assert_eq!(visit.result(), "32 |2 2 of 32 fields|2 2 of 32 fields|0 0 of 32 fields|2");
}

#[test]
fn the_page_fits_narrow_windows() {
    let Some(desk) = Desk::new("narrow") else { return };
    let crowded =
        (0..4000).map(|at| Block { gpa: at * 8192, len: 4096, page_type: "zero".into(), label: "x".repeat(99) });
    let long = Document {
        title: "x".repeat(200),
        facts: vec![("y".repeat(200), "ab".repeat(200)), ("z".into(), "w".repeat(200))],
        warnings: vec!["v".repeat(200)],
        memory: crowded.collect(),
        ..sample::sample()
    };
    for document in [sample::sample(), long, Document::default()] {
        let script = "return innerWidth + ' ' + document.documentElement.scrollWidth;";
        let visit = desk.script(&render(&document), script, &["--window-size=360,800"]);
        let (window, page) = visit.result().split_once(' ').expect("two numbers");
        // Some builds have a least width of their own; then this is tested at that.
        assert_eq!(window, page, "wider than the window");
    }
}

/// The tests above hold the console to silence, so it must be seen that it can speak; and the policy must hold.
#[test]
fn the_console_is_heard_and_nothing_is_loaded() {
    let Some(desk) = Desk::new("console") else { return };
    let page = render(&sample::sample());
    let visit = desk.script(&page, "console.error('planted'); return 1;", &[]);
    assert!(visit.console().iter().any(|line| line.contains("planted")), "{}", visit.log);
    let planted = page.replace("<main", "<img src=\"http://127.0.0.1:9/planted.png\" alt=\"\"><main");
    let visit = desk.visit(&planted, &["--dump-dom"]);
    let refused = |line: &&str| line.contains("planted.png") && line.contains("Content Security Policy");
    assert!(visit.console().iter().any(refused), "{}", visit.log);
}
