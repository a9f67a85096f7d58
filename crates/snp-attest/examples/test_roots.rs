//! Writes the certificates of the TEST roots into a directory: how `src/roots/test` was made.

use snp_abi::ProductLine;
use snp_attest::authority::make_root;
use snp_attest::error::Role;

fn main() {
    let directory = std::env::args().nth(1).expect("a directory");
    for &line in ProductLine::ALL {
        for role in [Role::Ark, Role::Ask, Role::Asvk] {
            let name = format!("{}-{}.der", line.name(), role.name()).to_lowercase();
            let path = std::path::Path::new(&directory).join(name);
            std::fs::write(path, make_root(line, role).der()).expect("a file can be written");
        }
    }
}
