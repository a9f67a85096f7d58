//! What is behind the guest's ports: a serial port, two debug ports and an exit port.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use super::lock;
use crate::output;

/// A 16550A at COM1.
const COM1: u16 = 0x3f8;
/// The debug port of Bochs, and QEMU's for firmware, where reading tells that there is one.
const DEBUG: [u16; 2] = [0xe9, 0x402];
const DEBUG_PRESENT: u8 = 0xe9;
/// QEMU's isa-debug-exit.
const EXIT: u16 = 0xf4;

/// The devices of a guest.
pub(super) struct Devices {
    output: Mutex<Output>,
    /// The serial port's registers, as they were written.
    registers: Mutex<[u8; 8]>,
    /// Ports that nobody answers, and how often they were asked.
    nobody: Mutex<BTreeMap<u16, u64>>,
}

/// Where the guest's words go.
struct Output {
    to: Box<dyn Write + Send>,
    /// The first failure; the guest itself runs on.
    failed: Option<std::io::Error>,
}

impl Output {
    fn take(&mut self, written: std::io::Result<()>) {
        if let Err(error) = output::unless_closed(written) {
            self.failed.get_or_insert(error);
        }
    }
}

impl Devices {
    /// Devices that print to `output`.
    pub(super) fn new(output: Box<dyn Write + Send>) -> Self {
        let output = Output { to: output, failed: None };
        Self { output: Mutex::new(output), registers: Mutex::default(), nobody: Mutex::default() }
    }

    /// OUT and OUTS: some items of `size` bytes. Returns what was written to the exit port.
    pub(super) fn write(&self, port: u16, size: usize, data: &[u8]) -> Option<u32> {
        for item in data.chunks(size.max(1)) {
            match port {
                COM1 if self.divisor_latched() => lock(&self.registers)[0] = item[0],
                COM1 => self.print(item[0]),
                _ if (COM1..COM1 + 8).contains(&port) => lock(&self.registers)[usize::from(port - COM1)] = item[0],
                _ if DEBUG.contains(&port) => self.print(item[0]),
                EXIT => {
                    let mut value = [0; 4];
                    value[..item.len().min(4)].copy_from_slice(&item[..item.len().min(4)]);
                    return Some(u32::from_le_bytes(value));
                }
                _ => self.note(port),
            }
        }
        None
    }

    /// IN and INS. What nobody answers reads as ones.
    pub(super) fn read(&self, port: u16, size: usize, data: &mut [u8]) {
        for item in data.chunks_mut(size.max(1)) {
            item.fill(0xff);
            item[0] = match port {
                _ if (COM1..COM1 + 8).contains(&port) => self.serial(usize::from(port - COM1)),
                _ if DEBUG.contains(&port) => DEBUG_PRESENT,
                _ => {
                    self.note(port);
                    0xff
                }
            };
        }
    }

    /// The ports that nobody answered, and how often they were asked.
    pub(super) fn unanswered(&self) -> BTreeMap<u16, u64> {
        lock(&self.nobody).clone()
    }

    /// Ends the output.
    ///
    /// # Errors
    /// The first failure to print what the guest said.
    pub(super) fn finish(&self) -> std::io::Result<()> {
        let mut output = lock(&self.output);
        let flushed = output.to.flush();
        output.take(flushed);
        output.failed.take().map_or(Ok(()), Err)
    }

    /// A serial port's register: nothing is ever received, everything is sent at once.
    fn serial(&self, register: usize) -> u8 {
        /// IIR: no interrupt. LSR: transmitter empty. MSR: carrier, ready, clear to send.
        const NO_INTERRUPT: u8 = 1;
        const EMPTY: u8 = 0x60;
        const CONNECTED: u8 = 0xb0;
        match register {
            0 if !self.divisor_latched() => 0,
            2 => NO_INTERRUPT,
            5 => EMPTY,
            6 => CONNECTED,
            other => lock(&self.registers)[other],
        }
    }

    /// LCR.DLAB: register 0 is the divisor.
    fn divisor_latched(&self) -> bool {
        lock(&self.registers)[3] & 0x80 != 0
    }

    fn print(&self, byte: u8) {
        let mut output = lock(&self.output);
        let written = output.to.write_all(&[byte]);
        output.take(written);
    }

    fn note(&self, port: u16) {
        *lock(&self.nobody).entry(port).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_serial_port_prints_but_for_its_divisor() {
        let paper = Paper::default();
        let devices = Devices::new(Box::new(paper.clone()));
        assert_eq!(devices.write(0x3f8, 1, b"ab"), None);
        devices.write(0x3fb, 1, &[0x80]);
        devices.write(0x3f8, 1, &[1]);
        devices.write(0x3fb, 1, &[3]);
        devices.write(0xe9, 1, b"c");
        devices.write(0x402, 1, b"d");
        assert_eq!(*lock(&paper.0), b"abcd");
        let mut byte = [0];
        devices.read(0x3fd, 1, &mut byte);
        assert_eq!(byte, [0x60]);
        assert!(devices.unanswered().is_empty());
    }

    #[test]
    fn the_exit_port_ends_and_unknown_ports_are_noted() {
        let devices = Devices::new(Box::new(std::io::sink()));
        assert_eq!(devices.write(0xf4, 4, &[0x23, 1, 0, 0]), Some(0x123));
        let mut word = [0; 2];
        devices.read(0xcf8, 2, &mut word);
        assert_eq!(word, [0xff, 0xff]);
        assert_eq!(devices.write(0xcf8, 1, &[0]), None);
        assert_eq!(devices.unanswered(), [(0xcf8, 2)].into());
    }
}
