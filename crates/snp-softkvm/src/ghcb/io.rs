//! IOIO and MMIO events.

use snp_abi::ghcb::{GhcbError, IoioInfo};
use snp_abi::{Errno, PAGE_SIZE};

use super::scratch::{NoScratch, Scratch};
use super::{Ghcb, Machine, Outcome, Pending, UserExit};

/// INS or OUTS through the scratch area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StringIo {
    port: u16,
    size: u8,
    input: bool,
    /// The next item's place in the scratch area, and items left.
    at: usize,
    left: u32,
    /// How many items user space was given.
    given: u32,
}

/// An MMIO access that is not a device of KVM's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mmio {
    gpa: u64,
    write: bool,
    /// The next byte's place in the scratch area, and bytes left.
    at: usize,
    left: usize,
}

impl Mmio {
    /// What user space is given at once.
    fn part(&self) -> usize {
        self.left.min(8)
    }

    fn advance(&mut self, bytes: usize) {
        // The guest's addresses are its own: a range that wraps is nobody's.
        self.gpa = self.gpa.wrapping_add(bytes as u64);
        self.at += bytes;
        self.left -= bytes;
    }
}

impl Ghcb {
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/svm.c, `io_interception`; x86.c, `kvm_fast_pio`.
    pub(super) fn ioio(&mut self, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let io = IoioInfo(page.exit_info_1());
        let (port, size) = (io.port(), io.size());
        if size == 0 {
            return Outcome::Resume;
        }
        if io.string() {
            let count = item_count(page.exit_info_2());
            return self.string_io(io, count, machine);
        }
        let rax = page.registers.rax.to_le_bytes();
        let bytes = usize::from(size);
        if io.input() {
            let mut data = [0; 8];
            if machine.port_in(port, &mut data[..bytes]) {
                return self.finish_in(size, &data[..bytes]);
            }
            self.pending = Pending::In(size);
            return Outcome::Exit(UserExit::Io { port, size, input: true, count: 1, data: Vec::new() });
        }
        if machine.port_out(port, &rax[..bytes]) {
            return Outcome::Resume;
        }
        self.pending = Pending::Out;
        Outcome::Exit(UserExit::Io { port, size, input: false, count: 1, data: rax[..bytes].to_vec() })
    }

    /// IN of fewer than four bytes leaves the rest of RAX as the guest gave it.
    pub(super) fn finish_in(&mut self, size: u8, data: &[u8]) -> Outcome {
        let rax = &mut self.mapped().registers.rax;
        let mut bytes = if size < 4 { rax.to_le_bytes() } else { [0; 8] };
        let len = usize::from(size).min(data.len());
        bytes[..len].copy_from_slice(&data[..len]);
        *rax = u64::from_le_bytes(bytes);
        Outcome::Resume
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_es_string_io`; x86.c, `kvm_sev_es_string_io`.
    fn string_io(&mut self, io: IoioInfo, count: Option<u32>, machine: &mut dyn Machine) -> Outcome {
        let bytes = count.and_then(|count| i32::try_from(count).ok()?.checked_mul(io.size().into()));
        let (Some(left), Some(bytes)) = (count, bytes) else { return Outcome::Fail(Errno::EINVAL) };
        if bytes == 0 {
            return Outcome::Resume;
        }
        if let Err(outcome) = self.set_up_scratch(bytes as u64, machine) {
            return outcome;
        }
        let (port, size, input) = (io.port(), io.size(), io.input());
        self.go_on_string(StringIo { port, size, input, at: 0, left, given: 0 }, machine)
    }

    /// Gives items to KVM's own device, or as many as fit into a page to user space.
    fn go_on_string(&mut self, mut io: StringIo, machine: &mut dyn Machine) -> Outcome {
        let size = usize::from(io.size);
        while io.left != 0 {
            let scratch = self.scratch();
            let handled = if io.input {
                let mut item = [0; 8];
                let handled = machine.port_in(io.port, &mut item[..size]);
                if handled {
                    scratch.write(io.at, &item[..size]);
                }
                handled
            } else {
                machine.port_out(io.port, scratch.read(io.at, size))
            };
            if !handled {
                let count = io.left.min((PAGE_SIZE / size) as u32);
                let data = if io.input { Vec::new() } else { scratch.read(io.at, count as usize * size).to_vec() };
                let exit = UserExit::Io { port: io.port, size: io.size, input: io.input, count, data };
                io.given = count;
                self.pending = Pending::String(io);
                return Outcome::Exit(exit);
            }
            io.at += size;
            io.left -= 1;
        }
        Outcome::Resume
    }

    pub(super) fn finish_string(&mut self, mut io: StringIo, data: &[u8], machine: &mut dyn Machine) -> Outcome {
        let bytes = io.given as usize * usize::from(io.size);
        if io.input {
            let len = bytes.min(data.len());
            self.scratch().write(io.at, &data[..len]);
        }
        io.at += bytes;
        io.left -= io.given;
        self.go_on_string(io, machine)
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_handle_vmgexit`; x86.c, `kvm_sev_es_mmio`.
    pub(super) fn mmio(&mut self, gpa: u64, len: u64, write: bool, machine: &mut dyn Machine) -> Outcome {
        if len == 0 {
            return Outcome::Resume;
        }
        if self.config.version >= 2 && len > 8 {
            return self.malformed(GhcbError::INVALID_INPUT);
        }
        if let Err(outcome) = self.set_up_scratch(len, machine) {
            return outcome;
        }
        let scratch = self.scratch();
        let mut mmio = Mmio { gpa, write, at: 0, left: len as usize };
        // KVM's own devices first, as far as they go.
        while mmio.left != 0 {
            let part = mmio.part();
            let mut data = [0; 8];
            let handled = if write {
                machine.mmio_write(mmio.gpa, scratch.read(mmio.at, part))
            } else {
                machine.mmio_read(mmio.gpa, &mut data[..part])
            };
            if !handled {
                break;
            }
            if !write {
                scratch.write(mmio.at, &data[..part]);
            }
            mmio.advance(part);
        }
        self.go_on_mmio(mmio)
    }

    fn go_on_mmio(&mut self, mmio: Mmio) -> Outcome {
        if mmio.left == 0 {
            return Outcome::Resume;
        }
        let part = mmio.part();
        let data = mmio.write.then(|| {
            let mut data = [0; 8];
            data[..part].copy_from_slice(self.scratch().read(mmio.at, part));
            data
        });
        let exit = UserExit::Mmio { gpa: mmio.gpa, len: part as u8, data };
        self.pending = Pending::Mmio(mmio);
        Outcome::Exit(exit)
    }

    pub(super) fn finish_mmio(&mut self, mut mmio: Mmio, data: &[u8; 8]) -> Outcome {
        let part = mmio.part();
        if !mmio.write {
            self.scratch().write(mmio.at, &data[..part]);
        }
        mmio.advance(part);
        self.go_on_mmio(mmio)
    }

    /// Looks up the scratch area, of which the request needs `len` bytes.
    ///
    /// # Errors
    /// How the exit ends without it.
    pub(super) fn set_up_scratch(&mut self, len: u64, machine: &mut dyn Machine) -> Result<(), Outcome> {
        let config = self.config;
        let page = self.mapped();
        match Scratch::new(page, &config, machine, len) {
            Ok(scratch) => {
                page.scratch = Some(scratch);
                Ok(())
            }
            Err(NoScratch::Malformed(error)) => Err(self.malformed(error)),
            Err(NoScratch::Fail(errno)) => Err(Outcome::Fail(errno)),
        }
    }

    /// The scratch area; whoever asks has set it up.
    pub(super) fn scratch(&mut self) -> &mut Scratch {
        self.mapped().scratch.as_mut().expect("the scratch area of this exit was set up")
    }
}

/// The items that string IOIO asks for, if there can be so many.
fn item_count(info_2: u64) -> Option<u32> {
    i32::try_from(info_2).ok()?.try_into().ok()
}
