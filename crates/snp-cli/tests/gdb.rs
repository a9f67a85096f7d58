//! `snp run --gdb`: by a client of our own that speaks the protocol, and by gdb itself where there is one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use snp_abi::Vmsa;
use zerocopy::FromBytes;

/// The first instruction of the guest, and the one after it.
const START: u64 = 0x10_6000;
const SECOND: u64 = START + 10;
/// Where `smp` counts reports.
const REPORTED: u64 = 0x10_b040;

/// A guest that waits for a debugger.
struct Guest {
    snp: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Guest {
    #[expect(clippy::zombie_processes, reason = "a test that fails leaves it behind; `end` waits for it")]
    fn start() -> Self {
        let arguments = ["run", "--example", "smp", "--vcpus", "2", "--gdb", "127.0.0.1:0", "--timeout", "100"];
        let mut snp = Command::new(env!("CARGO_BIN_EXE_snp"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("snp starts");
        let mut stderr = BufReader::new(snp.stderr.take().expect("piped"));
        loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it waits for a debugger");
            if let Some(address) = line.trim_end().strip_prefix("waiting for gdb: target remote ") {
                return Self { snp, stderr, address: address.to_owned() };
            }
        }
    }

    /// The exit code, and what was printed at the end.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.snp.wait().unwrap().code(), rest)
    }
}

/// A debugger.
struct Client(TcpStream);

impl Client {
    fn connect(guest: &Guest) -> Self {
        let stream = TcpStream::connect(&guest.address).expect("the guest listens");
        stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
        Self(stream)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("an answer");
        byte[0]
    }

    /// Sends a packet and returns the answer's data, run lengths expanded.
    fn ask(&mut self, request: &str) -> String {
        let sum = request.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${request}#{sum:02x}").unwrap();
        while self.byte() != b'$' {}
        let mut answer = String::new();
        loop {
            match self.byte() {
                b'#' => break,
                b'*' => {
                    let count = self.byte() - 29;
                    let last = answer.chars().next_back().unwrap();
                    answer.extend(std::iter::repeat_n(last, count.into()));
                }
                byte => answer.push(byte.into()),
            }
        }
        let _ = (self.byte(), self.byte());
        self.0.write_all(b"+").unwrap();
        answer
    }

    /// RIP of a thread.
    fn rip(&mut self, thread: u32) -> u64 {
        assert_eq!(self.ask(&format!("Hg{thread:x}")), "OK");
        let registers = self.ask("g");
        let byte = |at: usize| u8::from_str_radix(&registers[2 * at..2 * at + 2], 16).unwrap();
        u64::from_le_bytes(std::array::from_fn(|i| byte(0x80 + i)))
    }
}

/// Where the second processor starts, by the template of its VMSA.
fn other_processor() -> u64 {
    let guest = snp_guests::find("smp").unwrap();
    let page = guest.pages.iter().find(|page| page.gpa.0 == 0x10_e000).unwrap();
    Vmsa::read_from_bytes(&page.data).unwrap().rip
}

#[test]
fn a_client_stops_steps_reads_writes_and_goes_on() {
    let guest = Guest::start();
    let mut client = Client::connect(&guest);
    assert!(client.ask("qSupported:multiprocess-;swbreak+;hwbreak+").contains("PacketSize"));
    assert!(client.ask("?").starts_with("T05"), "it stands still");
    assert_eq!(client.ask("qfThreadInfo"), "m01,02");
    assert_eq!(client.rip(1), START);
    assert_eq!(client.rip(2), 0, "the second processor has no VMSA yet");

    // mov rbx, 0x40112000
    assert_eq!(client.ask("Hg1"), "OK");
    assert_eq!(client.ask(&format!("m{START:x},a")), "48bb00201140000000000000"[..20].to_owned());
    assert!(client.ask("vCont;s:1;c").starts_with("T05"));
    assert_eq!(client.rip(1), SECOND);

    // The text that the guest will print.
    let texts = 0x10_a000_u64;
    assert_eq!(client.ask(&format!("M{texts:x},1:48")), "OK");
    assert_eq!(client.ask(&format!("m{texts:x},1")), "48");

    let other = other_processor();
    assert_eq!(client.ask(&format!("Z0,{other:x},1")), "OK");
    let stop = client.ask("vCont;c");
    assert!(stop.starts_with("T05") && stop.contains("thread:02"), "{stop}");
    assert_eq!(client.rip(2), other);
    assert_eq!(client.ask(&format!("z0,{other:x},1")), "OK");

    assert_eq!(client.ask(&format!("Z2,{REPORTED:x},8")), "OK");
    let stop = client.ask("vCont;c");
    assert!(stop.contains(&format!("watch:{REPORTED:x}")) || stop.contains("watch:"), "{stop}");
    assert_eq!(client.ask(&format!("m{REPORTED:x},1")), "01", "after the write");
    assert_eq!(client.ask(&format!("z2,{REPORTED:x},8")), "OK");

    assert_eq!(client.ask("vCont;c"), "W00");
    let (code, printed) = guest.end();
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn a_guest_that_is_killed_did_not_end_well() {
    let guest = Guest::start();
    let mut client = Client::connect(&guest);
    write!(client.0, "$k#6b").unwrap();
    let (code, printed) = guest.end();
    assert_eq!((code, printed.as_str()), (Some(1), "killed by the debugger\n"));
}

/// Whoever detaches lets it run.
#[test]
fn a_guest_that_is_detached_runs_on() {
    let guest = Guest::start();
    let mut client = Client::connect(&guest);
    assert_eq!(client.ask("D"), "OK");
    let (code, printed) = guest.end();
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn gdb_itself() {
    if Command::new("gdb").arg("--version").output().is_err() {
        eprintln!("skipped: no gdb");
        return;
    }
    let guest = Guest::start();
    let commands = [
        "set pagination off".to_owned(),
        "set architecture i386:x86-64".to_owned(),
        format!("target remote {}", guest.address),
        "info threads".to_owned(),
        "stepi".to_owned(),
        "printf \"second %#lx\\n\", $rip".to_owned(),
        format!("hbreak *{:#x}", other_processor()),
        "continue".to_owned(),
        "printf \"other %#lx\\n\", $rip".to_owned(),
        "info threads".to_owned(),
        "delete".to_owned(),
        format!("watch *(long *){REPORTED:#x}"),
        "continue".to_owned(),
        "delete".to_owned(),
        "continue".to_owned(),
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]);
    commands.iter().for_each(|command| {
        gdb.args(["-ex", command]);
    });
    let output = gdb.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let (code, printed) = guest.end();
    for expected in [
        "vCPU 1, APIC ID 0x1, no VMSA".to_owned(),
        format!("second {SECOND:#x}"),
        format!("other {:#x}", other_processor()),
        "New value = 1".to_owned(),
        "exited normally".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected}\n{said}\n{printed}");
    }
    assert_eq!(code, Some(0), "{said}\n{printed}");
}
