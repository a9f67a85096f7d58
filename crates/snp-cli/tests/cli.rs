//! The command line's output, word for word. `TRYCMD=overwrite cargo test -p snp-cli --test cli` takes over what is printed.

#[test]
fn output() {
    trycmd::TestCases::new().case("tests/cmd/*/*.trycmd");
}
