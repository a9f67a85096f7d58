//! Asks the C compiler whether Linux has the same structures and numbers as `snp-abi`.
//!
//! A C program is generated from [`AbiLayout`](snp_abi::AbiLayout) and from the constants. What the compiler can decide is
//! a `_Static_assert`; where bit fields lie only a running program can tell, so it is run, too.
//!
//! Not in the uapi headers, and therefore not compared here: the VMSA (`struct sev_es_save_area`, kernel-internal),
//! PAGE_INFO, the ID block, the secrets and CPUID pages (AMD 56860), and the constants and structures of proposals
//! (`snp_abi::kvm::proposed`).

mod program;
mod tables;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::artifacts::Artifacts;
use crate::process::{self, Outcome};
use crate::workspace;
use tables::Tables;

/// Compares everything.
pub(crate) fn run(artifacts: &Artifacts) -> Result<Outcome> {
    let Some(headers) = artifacts.path("trixie-backports/usr/include") else {
        ensure!(!workspace::in_ci(), "the Linux headers are missing");
        return Ok(Outcome::Skipped("the Linux headers are missing".to_owned()));
    };
    process::require("cc", "gcc")?;
    let tables = Tables::snp_abi();
    compare(&tables, &headers)?;
    println!(
        "{} structures with {} fields, {} bit fields and {} numbers are as in {}",
        tables.structures.len(),
        tables.structures.iter().map(|structure| structure.fields.len()).sum::<usize>(),
        tables.bits.len(),
        tables.numbers.len(),
        headers.display()
    );
    println!("not in the headers, so not compared: sev_es_save_area (VMSA), the firmware's own pages, proposals");
    Ok(Outcome::Passed)
}

/// Compiles and runs the program.
///
/// # Errors
/// The compiler's or the program's words about what differs.
fn compare(tables: &Tables, headers: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (source, binary) = (directory.path().join("check.c"), directory.path().join("check"));
    std::fs::write(&source, program::generate(tables))?;
    let mut compile = process::command("cc");
    // The headers are those of x86 Linux, wherever this runs; the C library's own are not used before them.
    compile.args(["-std=gnu11", "-Wall", "-Werror", "-fmax-errors=20", "-isystem"]).arg(headers);
    compile.arg("-isystem").arg(headers.join("x86_64-linux-gnu"));
    process::capture(compile.arg("-o").arg(&binary).arg(&source))?;
    process::capture(&mut process::command(&binary))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::tables::{Bit, Field, Tables};
    use super::{compare, program};

    /// Headers of our own, so that this test needs no artefact.
    fn headers() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in ["linux", "x86_64-linux-gnu"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let kvm = "enum { THREE = 3 };\nstruct s { unsigned a; unsigned short type; unsigned x:1, y:1; };\n";
        std::fs::write(directory.path().join("linux/kvm.h"), kvm).unwrap();
        for name in ["kvm_para.h", "psp-sev.h", "sev-guest.h"] {
            std::fs::write(directory.path().join("linux").join(name), "").unwrap();
        }
        directory
    }

    fn tables() -> Tables {
        let field = |name, offset, size| Field { name, offset, size };
        Tables {
            structures: vec![super::tables::Structure {
                c_name: "s",
                size: 8,
                fields: vec![field("a", 0, 4), field("type", 4, 2)],
            }],
            bits: vec![Bit { c_struct: "s", name: "y", byte: 6, bit: 1 }],
            numbers: vec![("THREE".to_owned(), 3)],
        }
    }

    fn refusal(tables: &Tables, headers: &tempfile::TempDir) -> String {
        format!("{:#}", compare(tables, headers.path()).expect_err("the tables are wrong"))
    }

    #[test]
    fn what_is_right_passes_and_every_kind_of_mistake_is_found() {
        let headers = headers();
        compare(&tables(), headers.path()).expect("the tables are right");

        let mut wrong = tables();
        wrong.structures[0].fields[1].offset = 5;
        assert!(refusal(&wrong, &headers).contains("offset of s.type"));

        let mut wrong = tables();
        wrong.structures[0].fields[0].size = 8;
        assert!(refusal(&wrong, &headers).contains("size of s.a"));

        let mut wrong = tables();
        wrong.structures[0].size = 12;
        assert!(refusal(&wrong, &headers).contains("size of s\""));

        let mut wrong = tables();
        wrong.bits[0].bit = 0;
        assert!(refusal(&wrong, &headers).contains("s.y: not bit 0 of byte 6"));

        let mut wrong = tables();
        wrong.numbers[0].1 = 4;
        assert!(refusal(&wrong, &headers).contains("THREE"));
    }

    /// The same with the real tables and headers, where they are at hand: one wrong offset is enough.
    #[test]
    fn a_wrong_offset_against_the_real_headers_is_found() {
        let Some(data) = std::env::var_os("SNPKIT_TESTDATA") else {
            println!("skipped: SNPKIT_TESTDATA is not set");
            return;
        };
        let headers = PathBuf::from(data).join("trixie-backports/usr/include");
        let mut tables = Tables::snp_abi();
        compare(&tables, &headers).expect("snp-abi is right");
        let structure = tables.structures.iter_mut().find(|s| s.c_name == "kvm_sev_snp_launch_finish").unwrap();
        let field = structure.fields.iter_mut().find(|field| field.name == "host_data").unwrap();
        field.offset -= 1;
        let error = format!("{:#}", compare(&tables, &headers).expect_err("host_data is not there"));
        assert!(error.contains("offset of kvm_sev_snp_launch_finish.host_data"), "{error}");
    }

    #[test]
    fn the_program_names_every_field_and_number() {
        let tables = Tables::snp_abi();
        let text = program::generate(&tables);
        for structure in &tables.structures {
            for field in &structure.fields {
                let accessor = format!("offsetof(struct {}, {})", structure.c_name, field.name);
                assert!(text.contains(&accessor), "{accessor}");
            }
        }
        assert!(tables.numbers.iter().all(|(name, _)| text.contains(&**name)));
    }

    /// A structure or constant that is added to `snp_abi::kvm` and not here fails this test.
    #[test]
    fn nothing_of_the_kvm_uapi_is_left_out() {
        let tables = Tables::snp_abi();
        let kvm = crate::workspace::root().join("crates/snp-abi/src/kvm");
        for entry in std::fs::read_dir(kvm).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("proposed.rs") {
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                if let Some(rest) = line.strip_prefix("pub const ") {
                    let name = rest.split(':').next().unwrap();
                    assert!(tables.numbers.iter().any(|(known, _)| known == name), "constant {name}");
                }
                if let Some(rest) = line.strip_prefix("abi_layout!(") {
                    let name = rest.split(',').next().unwrap();
                    assert!(tables.structures.iter().any(|known| known.c_name == name), "structure {name}");
                }
            }
        }
    }
}
