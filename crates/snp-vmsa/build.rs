//! Turns `profiles.toml` into Rust: the registry is data to whoever adds a row, and costs nothing to whoever runs `snp`. A row
//! with a column missing, misspelt or of the wrong kind does not build.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use toml::{Table, Value};

fn main() {
    println!("cargo:rerun-if-changed=profiles.toml");
    let text = std::fs::read_to_string("profiles.toml").expect("profiles.toml");
    let registry: Table = text.parse().expect("profiles.toml is TOML");
    let rows = registry["profile"].as_array().expect("[[profile]] rows");
    let mut out = String::from("static PROFILES: &[ResetProfile] = &[\n");
    for row in rows {
        Row::new(row.as_table().expect("a row")).write(&mut out);
    }
    out += "];\n";
    let target = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&target).join("profiles.rs"), out).expect("written");
}

/// A row, and the columns that were read.
struct Row<'a> {
    table: &'a Table,
    name: &'a str,
    read: BTreeSet<&'a str>,
}

impl<'a> Row<'a> {
    fn new(table: &'a Table) -> Self {
        let name = table.get("name").and_then(Value::as_str).expect("every row has a name");
        Self { table, name, read: BTreeSet::new() }
    }

    fn optional(&mut self, column: &'a str) -> Option<&'a Value> {
        self.read.insert(column);
        self.table.get(column)
    }

    fn column(&mut self, column: &'a str) -> &'a Value {
        let name = self.name;
        self.optional(column).unwrap_or_else(|| panic!("profile {name}: no column `{column}`"))
    }

    fn text(&mut self, column: &'a str) -> &'a str {
        let name = self.name;
        self.column(column).as_str().unwrap_or_else(|| panic!("profile {name}: `{column}` is no text"))
    }

    fn number(&mut self, column: &'a str) -> i64 {
        let name = self.name;
        self.column(column).as_integer().unwrap_or_else(|| panic!("profile {name}: `{column}` is no number"))
    }

    fn number_or(&mut self, column: &'a str, default: i64) -> i64 {
        if self.table.contains_key(column) { self.number(column) } else { self.optional(column).map_or(default, |_| 0) }
    }

    /// One of the named choices, as a variant of the enum.
    fn choice(&mut self, column: &'a str, kind: &str, choices: &[(&str, &str)]) -> String {
        let text = self.text(column);
        let variant = choices.iter().find(|(name, _)| *name == text).map(|(_, variant)| variant);
        let variant = variant.unwrap_or_else(|| panic!("profile {}: `{column}` is {text:?}", self.name));
        format!("{kind}::{variant}")
    }

    fn date(&mut self, column: &'a str) -> String {
        let Some(value) = self.optional(column) else { return "None".to_owned() };
        let text = value.as_str().expect("a date in quotes");
        let parts: Vec<u16> = text.split('-').map(|part| part.parse().expect("YYYY-MM-DD")).collect();
        let [year, month, day] = parts[..] else { panic!("profile {}: `{column}`: want YYYY-MM-DD", self.name) };
        format!("Some(Date::new({year}, {month}, {day}))")
    }

    fn kernels(&mut self) -> String {
        let Some(value) = self.optional("linux") else { return "None".to_owned() };
        let end = |value: &Value| match value.as_str().expect("a version in quotes") {
            "" => "None".to_owned(),
            text => {
                let (major, minor) = text.split_once('.').expect("MAJOR.MINOR");
                format!("Some(KernelVersion::new({major}, {minor}))")
            }
        };
        let ends: Vec<String> = value.as_array().expect("two versions").iter().map(end).collect();
        assert_eq!(ends.len(), 2, "profile {}: `linux` wants two versions", self.name);
        format!("Some([{}])", ends.join(", "))
    }

    fn rdx(&mut self) -> String {
        match self.column("rdx") {
            Value::Integer(value) => format!("ResetRdx::Fixed({value:#x})"),
            Value::String(text) if text == "signature" => "ResetRdx::Signature".to_owned(),
            other => panic!("profile {}: `rdx` is {other:?}", self.name),
        }
    }

    fn write(mut self, out: &mut String) {
        *out += "    ResetProfile {\n";
        let mut field = |name: &str, value: String| writeln!(out, "        {name}: {value},").expect("a string");
        for column in ["name", "vmm", "era", "family", "source", "vector"] {
            field(column, format!("{:?}", self.text(column)));
        }
        field("since", self.date("since"));
        field("until", self.date("until"));
        field("linux", self.kernels());
        field("state", self.choice("state", "StartState", &[("reset", "Reset"), ("flat", "Flat")]));
        for (name, column) in [
            ("cs_attrib", "cs"),
            ("boot_cs_attrib", "boot_cs"),
            ("ss_attrib", "ss"),
            ("tr_attrib", "tr"),
            ("mxcsr", "mxcsr"),
            ("fcw", "fcw"),
            ("g_pat", "g_pat"),
        ] {
            field(name, format!("{:#x}", self.number(column)));
        }
        field("data_attrib", format!("{:#x}", self.number_or("data", 0x93)));
        for column in ["rsp", "rbp", "rsi"] {
            field(column, format!("{:#x}", self.number_or(column, 0)));
        }
        field("rdx", self.rdx());
        field("features", format!("SevFeatures({:#x})", self.number("features")));
        field("cpuid", self.choice("cpuid", "CpuidOrder", &[("in-order", "InOrder"), ("last", "Last")]));
        field("sec_mem", self.choice("sec_mem", "SecMem", &[("zero", "Zero"), ("unmeasured", "Unmeasured")]));
        *out += "    },\n";
        let unknown: Vec<_> = self.table.keys().filter(|column| !self.read.contains(column.as_str())).collect();
        assert!(unknown.is_empty(), "profile {}: unknown columns {unknown:?}", self.name);
    }
}
