//! Inputs that tests of the command share: synthetic firmware, kernels, keys.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory or program that CI provides, or `None` with the reason told.
pub(crate) fn provided(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set; `cargo xtask artifacts` provides it");
    }
    path
}

/// Runs `snp`.
pub(crate) fn snp<S: AsRef<std::ffi::OsStr>>(directory: &Path, arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_snp")).args(arguments).current_dir(directory).output().expect("snp runs")
}

/// What `snp` prints, without the end of the last line.
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim_end().to_owned()
}

/// What `snp kds serve` answers to one request for an address that it has.
pub(crate) fn fetched(target: &str) -> Vec<u8> {
    let mut service = Command::new(env!("CARGO_BIN_EXE_snp"))
        .args(["kds", "serve", "--max-requests", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("snp runs");
    let mut line = String::new();
    BufReader::new(service.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    let address = line.trim().strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    assert!(service.wait().expect("it ends").success());
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{target}: {}", String::from_utf8_lossy(&answer));
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    answer.split_off(end + 4)
}

/// Firmware that is all table: 64 KiB of pages that all differ, and what the table says.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    pub(crate) pages: usize,
    pub(crate) reset_eip: Option<u32>,
    pub(crate) hash_table: Option<u32>,
    pub(crate) svsm_offset: Option<u32>,
    /// (GPA, bytes, kind); `None` leaves the metadata out.
    pub(crate) sections: Option<Vec<(u32, u32, u32)>>,
}

impl Firmware {
    /// With everything but an SVSM entry, sections out of order.
    pub(crate) fn full() -> Self {
        Self {
            pages: 16,
            reset_eip: Some(0x0080_b004),
            hash_table: Some(0x0081_0c00),
            svsm_offset: None,
            sections: Some(vec![
                (0x80_e000, 0x1000, 3),
                (0x80_0000, 0x9000, 1),
                (0x81_0000, 0x1000, 0x10),
                (0x80_d000, 0x1000, 2),
                (0x80_f000, 0x1000, 4),
                (0x82_0000, 0x2000, 1),
            ]),
        }
    }

    /// An SVSM: firmware's table with an entry point of its own.
    pub(crate) fn svsm() -> Self {
        Self { pages: 24, svsm_offset: Some(0x1_2340), hash_table: None, ..Self::full() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut image: Vec<u8> = (0..self.pages * 4096).map(|i| (i / 4096 * 31 + i * 7 + 1) as u8).collect();
        let metadata_at = 4096;
        let mut table = Vec::new();
        let mut entry = |guid: [u8; 16], data: &[u8]| {
            table.extend_from_slice(data);
            table.extend_from_slice(&((data.len() + 18) as u16).to_le_bytes());
            table.extend_from_slice(&guid);
        };
        if let Some(eip) = self.reset_eip {
            entry(guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e"), &eip.to_le_bytes());
        }
        if let Some(gpa) = self.hash_table {
            entry(guid("7255371f-3a3b-4b04-927b-1da6efa8d454"), &[gpa.to_le_bytes(), 0x400_u32.to_le_bytes()].concat());
        }
        if let Some(offset) = self.svsm_offset {
            entry(guid("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"), &offset.to_le_bytes());
        }
        if let Some(sections) = &self.sections {
            let mut metadata = b"ASEV".to_vec();
            let size = 16 + 12 * sections.len() as u32;
            for word in [size, 1, sections.len() as u32] {
                metadata.extend_from_slice(&word.to_le_bytes());
            }
            for (gpa, len, kind) in sections {
                for word in [*gpa, *len, *kind] {
                    metadata.extend_from_slice(&word.to_le_bytes());
                }
            }
            image[metadata_at..metadata_at + metadata.len()].copy_from_slice(&metadata);
            let back = (image.len() - metadata_at) as u32;
            entry(guid("dc886566-984a-4798-a75e-5585a7bf67cc"), &back.to_le_bytes());
        }
        let size = (table.len() + 18) as u16;
        table.extend_from_slice(&size.to_le_bytes());
        table.extend_from_slice(&guid("96b582de-1fb2-45f7-baea-a366c55a082d"));
        let end = image.len() - 32;
        image[end - table.len()..end].copy_from_slice(&table);
        image
    }

    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.bytes()).expect("written");
        path.to_owned()
    }
}

/// A GUID as it lies in memory: the first three fields little-endian.
pub(crate) fn guid(text: &str) -> [u8; 16] {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let mut bytes: [u8; 16] = std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hex"));
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}
