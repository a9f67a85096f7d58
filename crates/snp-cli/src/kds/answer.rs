//! What the service answers to a request.

use anyhow::{Context, Result, ensure};
use snp_abi::{ProductLine, TcbComponent, TcbParts};
use snp_asp::PlatformConfig;
use snp_attest::authority::TestAuthority;
use snp_attest::certificate::Certificate;
use snp_attest::chain::Certificates;
use snp_attest::error::Role;

use crate::certs::{self, KeyName};
use crate::{input, report};

/// An answer.
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn found(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: "200 OK", content_type, body }
    }

    fn refused(status: &'static str, why: &str) -> Self {
        Self { status, content_type: "text/plain", body: format!("{why}\n").into_bytes() }
    }
}

/// Answers a request by its first line.
///
/// # Source
/// AMD 57230, "KDS Interface".
pub(super) fn to(head: &str) -> Answer {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(method, "GET" | "HEAD") {
        return Answer::refused("405 Method Not Allowed", "want GET");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<_> = path.split('/').collect();
    let ["", kind @ ("vcek" | "vlek"), "v1", product, what] = parts[..] else {
        return Answer::refused("404 Not Found", "want /vcek/v1/PRODUCT/… or /vlek/v1/PRODUCT/…");
    };
    let Ok(line) = report::product_line(product) else {
        return Answer::refused("404 Not Found", "no such product: want Milan, Genoa or Turin");
    };
    let authority = TestAuthority::new(line);
    let Certificates { ark, ask, asvk, .. } = authority.certificates();
    let chain = |signer: Option<Certificate>| {
        let pem: String = [signer, ark].iter().flatten().map(Certificate::to_pem).collect();
        Answer::found("application/x-pem-file", pem.into_bytes())
    };
    let answer = match (kind, what) {
        ("vcek", "cert_chain") => return chain(ask),
        ("vlek", "cert_chain") => return chain(asvk),
        (_, "crl") => return Answer::found("application/pkix-crl", authority.crl(Role::Ark, &[]).der().to_vec()),
        ("vlek", "cert") => vlek(line, query),
        ("vlek", _) => return Answer::refused("404 Not Found", "want cert, cert_chain or crl"),
        (_, hwid) => vcek(line, hwid, query),
    };
    match answer {
        Ok(certificate) => Answer::found("application/pkix-cert", certificate.der().to_vec()),
        Err(error) => Answer::refused("404 Not Found", &format!("{error:#}")),
    }
}

fn config(line: ProductLine) -> PlatformConfig {
    match line {
        ProductLine::Milan => PlatformConfig::milan(),
        ProductLine::Genoa => PlatformConfig::genoa(),
        ProductLine::Turin => PlatformConfig::turin(),
    }
}

/// The platform at the TCB version that is asked for: its keys are derived from it.
fn platform(line: ProductLine, query: &str) -> Result<PlatformConfig> {
    let mut parts = TcbParts::default();
    for item in query.split('&').filter(|item| !item.is_empty()) {
        let (name, level) = item.split_once('=').with_context(|| format!("{item}: want NAME=LEVEL"))?;
        let level = level.parse().with_context(|| format!("{item}: want a level from 0 to 255"))?;
        let component = match name {
            "fmcSPL" => TcbComponent::Fmc,
            "blSPL" => TcbComponent::Bootloader,
            "teeSPL" => TcbComponent::Tee,
            "snpSPL" => TcbComponent::Snp,
            "ucodeSPL" => TcbComponent::Microcode,
            _ => anyhow::bail!("{name}: want blSPL, teeSPL, snpSPL, ucodeSPL or fmcSPL"),
        };
        ensure!(line.tcb_components().contains(&component), "{} has no {}", line.name(), component.name());
        match component {
            TcbComponent::Fmc => parts.fmc = level,
            TcbComponent::Bootloader => parts.bootloader = level,
            TcbComponent::Tee => parts.tee = level,
            TcbComponent::Snp => parts.snp = level,
            TcbComponent::Microcode => parts.microcode = level,
        }
    }
    Ok(PlatformConfig { tcb: parts.pack(line), ..config(line) })
}

fn vcek(line: ProductLine, hwid: &str, query: &str) -> Result<Certificate> {
    let endorsement = certs::endorsement(platform(line, query)?, KeyName::Vcek);
    let (id, rest) = endorsement.chip_id.split_at(line.hwid_len());
    let asked = match input::hex_bytes::<64>(hwid) {
        Ok(bytes) => bytes.starts_with(id) && bytes.ends_with(rest),
        Err(_) => hwid.eq_ignore_ascii_case(&id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    };
    ensure!(asked, "no chip of the software platform has this hardware ID");
    certs::chain(&endorsement)?.vcek.context("no VCEK")
}

fn vlek(line: ProductLine, query: &str) -> Result<Certificate> {
    certs::chain(&certs::endorsement(platform(line, query)?, KeyName::Vlek))?.vlek.context("no VLEK")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Answer {
        to(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    #[test]
    fn every_address_is_answered() {
        for line in ["Milan", "Genoa", "Turin"] {
            let product = report::product_line(line).unwrap();
            let config = config(product);
            let endorsement = certs::endorsement(config.clone(), KeyName::Vcek);
            let hwid: String = endorsement.chip_id.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = endorsement.reported_tcb.parts(product);
            let fmc = if line == "Turin" { format!("fmcSPL={}&", parts.fmc) } else { String::new() };
            let query = format!(
                "{fmc}blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}",
                parts.bootloader, parts.tee, parts.snp, parts.microcode
            );
            let answer = get(&format!("/vcek/v1/{line}/{hwid}?{query}"));
            assert_eq!(answer.status, "200 OK", "{}", String::from_utf8_lossy(&answer.body));
            let expected = certs::chain(&endorsement).unwrap();
            assert_eq!(answer.body, expected.vcek.as_ref().unwrap().der());

            let chain = Certificate::from_file(&get(&format!("/vcek/v1/{line}/cert_chain")).body).unwrap();
            assert_eq!((Some(&chain[0]), Some(&chain[1])), (expected.ask.as_ref(), expected.ark.as_ref()));
            let answer = get(&format!("/vlek/v1/{line}/cert?{query}"));
            let expected = certs::chain(&certs::endorsement(config, KeyName::Vlek)).unwrap();
            assert_eq!(answer.body, expected.vlek.as_ref().unwrap().der());
            let chain = Certificate::from_file(&get(&format!("/vlek/v1/{line}/cert_chain")).body).unwrap();
            assert_eq!(Some(&chain[0]), expected.asvk.as_ref());
            assert!(snp_attest::certificate::Crl::from_der(&get(&format!("/vcek/v1/{line}/crl")).body).is_ok());
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let zero = "0".repeat(128);
        for target in [
            "/",
            "",
            "/vcek/v1/Rome/crl",
            "/vcek/v2/Milan/crl",
            "/vlek/v1/Milan/other",
            "/vcek/v1/Milan",
            &format!("/vcek/v1/Milan/{zero}?blSPL=1"),
            "/vcek/v1/Milan/00",
            "/vlek/v1/Milan/cert?blSPL=256",
            "/vlek/v1/Milan/cert?fmcSPL=1",
            "/vlek/v1/Milan/cert?what=1",
            "/vlek/v1/Milan/cert?blSPL",
        ] {
            assert_eq!(get(target).status, "404 Not Found", "{target}");
        }
        assert_eq!(to("POST /vcek/v1/Milan/crl HTTP/1.1").status, "405 Method Not Allowed");
        assert_eq!(to("").status, "405 Method Not Allowed");
    }
}
