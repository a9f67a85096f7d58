//! Performing a transcript again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use snp_abi::kvm::{KVM_CREATE_GUEST_MEMFD, KVM_SET_MSRS, kvm_sev_cmd, kvm_sev_snp_launch_update};
use snp_abi::{Errno, FwStatus, LaunchDigest, PAGE_SIZE, PageType};
use snp_asp::{PlatformConfig, SealedPage};
use snp_softkvm::ioctl::{Answer, Object};
use snp_softkvm::{Fault, GuestMemfd, SoftKvm, UapiProfile, UserSpace, Vcpu, Vm};
use zerocopy::FromBytes;

use crate::hex;
use crate::line::{Call, Line, Malformed, On, Page, Status};

/// A software platform that performs the lines of a transcript.
#[derive(Debug)]
pub struct Replay {
    kvm: SoftKvm,
    vms: BTreeMap<(u32, u32), Vm>,
    vcpus: BTreeMap<(u32, u32, u32), Vcpu>,
    /// By process and the number that the descriptor had there.
    memfds: BTreeMap<(u32, u32), Arc<GuestMemfd>>,
}

/// An answer that is not the recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The line, from 1.
    pub line: usize,
    /// Its command.
    pub command: String,
    /// What differs: `errno`, `fw_status`, `pages`, `returned` or `digest`.
    pub what: &'static str,
    /// As recorded.
    pub recorded: String,
    /// As the software platform answers.
    pub replayed: String,
}

impl Replay {
    /// A host without VMs.
    pub fn new(config: PlatformConfig, profile: &'static UapiProfile) -> Self {
        let kvm = SoftKvm::new(config, profile);
        Self { kvm, vms: BTreeMap::new(), vcpus: BTreeMap::new(), memfds: BTreeMap::new() }
    }

    /// Performs a line; `number` is the line's, from 1. Returns where the answer departs from the recorded one.
    ///
    /// # Errors
    /// [`Malformed`]: the line cannot be performed. Nothing is changed.
    pub fn perform(&mut self, number: usize, line: &Line) -> Result<Vec<Departure>, Malformed> {
        let reader = Reader { line: number };
        let Some(call) = &line.call else {
            return Err(Malformed::NoCall { line: number, command: line.command.clone() });
        };
        let object = self.object(number, line, call)?;
        let request = reader.number("request", &call.request)?;
        let request = u32::try_from(request).map_err(|_| reader.wrong("request", &call.request, "32 bits"))?;
        let argument = reader.number("argument", &call.argument)?;
        let user = User::new(&reader, line, call, argument, self.memfds_of(call.process))?;
        let answer = object.ioctl(&user, request, argument);
        let value = self.keep(call, request, &object, answer, argument);
        Ok(self.compare(number, line, call, (request, argument), &user, value))
    }

    /// The digests of all launches, in the order in which the VMs were created in each process.
    pub fn digests(&self) -> Vec<LaunchDigest> {
        self.vms.values().filter_map(Vm::launch_digest).collect()
    }

    /// The VMs, in the order in which they were created in each process.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.values()
    }

    /// What the transcript asked for and is not modelled.
    pub fn unmodelled(&self) -> Vec<String> {
        self.kvm.unmodelled().into_iter().map(|(what, _)| what).collect()
    }

    fn object(&self, number: usize, line: &Line, call: &Call) -> Result<Object, Malformed> {
        let unknown = |what| Malformed::Unknown { line: number, command: line.command.clone(), what };
        Ok(match call.on {
            On::Kvm => Object::Kvm(self.kvm.clone()),
            On::Vm(vm) => Object::Vm(self.vms.get(&(call.process, vm)).cloned().ok_or_else(|| unknown("VM"))?),
            On::Vcpu(vm, vcpu) => {
                let vcpu = self.vcpus.get(&(call.process, vm, vcpu)).cloned();
                Object::Vcpu(vcpu.ok_or_else(|| unknown("vCPU"))?)
            }
        })
    }

    fn memfds_of(&self, process: u32) -> BTreeMap<u32, Arc<GuestMemfd>> {
        self.memfds.range((process, 0)..=(process, u32::MAX)).map(|((_, fd), memfd)| (*fd, memfd.clone())).collect()
    }

    /// Keeps a new object under the name that later lines call it by.
    fn keep(
        &mut self,
        call: &Call,
        request: u32,
        object: &Object,
        answer: Result<Answer, Errno>,
        argument: u64,
    ) -> Result<i32, Errno> {
        match (answer?, object) {
            (Answer::Value(value), _) => return Ok(value),
            (Answer::Descriptor(Object::Vm(vm)), _) => {
                let count = self.vms.range((call.process, 0)..=(call.process, u32::MAX)).count();
                self.vms.insert((call.process, count as u32), vm);
            }
            (Answer::Descriptor(Object::Vcpu(vcpu)), _) => {
                if let On::Vm(vm) = call.on {
                    self.vcpus.insert((call.process, vm, argument as u32), vcpu);
                }
            }
            (Answer::Descriptor(Object::GuestMemfd(memfd)), _) if request == KVM_CREATE_GUEST_MEMFD => {
                if let Ok(fd) = u32::try_from(call.returned) {
                    self.memfds.insert((call.process, fd), memfd);
                }
            }
            (Answer::Descriptor(_), _) => {}
        }
        Ok(0)
    }

    fn compare(
        &self,
        number: usize,
        line: &Line,
        call: &Call,
        (request, argument): (u32, u64),
        user: &User,
        answer: Result<i32, Errno>,
    ) -> Vec<Departure> {
        let mut departures = Vec::new();
        let mut want = |what, recorded: Option<String>, replayed: Option<String>| {
            if recorded != replayed {
                let (recorded, replayed) = (recorded.unwrap_or_else(none), replayed.unwrap_or_else(none));
                let command = line.command.clone();
                departures.push(Departure { line: number, command, what, recorded, replayed });
            }
        };
        want("errno", line.errno.clone(), answer.err().map(|errno| errno.to_string()));
        if line.fw_status.is_some() {
            let command: Option<kvm_sev_cmd> = user.reread(argument);
            let status = command.map(|command| Status::of(FwStatus(command.error)));
            want("fw_status", line.fw_status.as_ref().map(describe), status.as_ref().map(describe));
        }
        if let Some(done) = user.launched() {
            want("pages", Some(line.pages.len().to_string()), Some(done.to_string()));
        }
        if request == KVM_SET_MSRS && line.errno.is_none() {
            want("returned", Some(call.returned.to_string()), answer.ok().map(|value| value.to_string()));
        }
        let vm = match call.on {
            On::Vm(vm) | On::Vcpu(vm, _) => self.vms.get(&(call.process, vm)),
            On::Kvm => None,
        };
        // Hardware does not tell it.
        if line.digest.is_some() {
            let digest = vm.and_then(Vm::launch_digest).map(|digest| digest.to_string());
            want("digest", line.digest.clone(), digest);
        }
        departures
    }
}

fn none() -> String {
    "none".to_owned()
}

fn describe(status: &Status) -> String {
    FwStatus(status.code).to_string()
}

/// Reads fields, and says where they are.
struct Reader {
    line: usize,
}

impl Reader {
    fn wrong(&self, field: &'static str, found: &str, want: &'static str) -> Malformed {
        let found = found.chars().take(40).collect();
        Malformed::Field { line: self.line, field, found, want }
    }

    fn number(&self, field: &'static str, text: &str) -> Result<u64, Malformed> {
        hex::parse_number(text).ok_or_else(|| self.wrong(field, text, "a hexadecimal number with 0x"))
    }

    fn bytes(&self, field: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
        hex::parse_bytes(text).ok_or_else(|| self.wrong(field, text, "hexadecimal digits"))
    }

    /// A page as the kernel would have taken it: whole where its contents are looked at, else known by its hash.
    fn page(&self, page: &Page) -> Result<Source, Malformed> {
        if let Some(data) = &page.data {
            let data = self.bytes("data", data)?;
            let data = data.try_into().map_err(|_| self.wrong("data", &page.gpa, "4096 bytes"))?;
            return Ok(Source::Whole(Box::new(data)));
        }
        if Some(page.r#type.as_str()) != PageType::NORMAL.name() {
            return Ok(Source::Any);
        }
        let hash = self.bytes("contents", &page.contents)?;
        let hash = hash.try_into().map_err(|_| self.wrong("contents", &page.contents, "48 bytes"))?;
        Ok(Source::Hash(Box::new(hash)))
    }
}

/// A source page of LAUNCH_UPDATE.
#[derive(Debug)]
enum Source {
    Whole(Box<[u8; PAGE_SIZE]>),
    Hash(Box<[u8; 48]>),
    /// Not measured and not looked at.
    Any,
}

/// The user space of one line.
#[derive(Debug)]
struct User {
    /// Address and bytes.
    memory: Mutex<Vec<(u64, Vec<u8>)>>,
    sources: BTreeMap<u64, Source>,
    /// LAUNCH_UPDATE: where its structure is, and the frame it began with.
    update: Option<(u64, u64)>,
    memfds: BTreeMap<u32, Arc<GuestMemfd>>,
    sev_device: bool,
    /// The recorded call could not write somewhere.
    faults: bool,
}

impl User {
    fn new(
        reader: &Reader,
        line: &Line,
        call: &Call,
        argument: u64,
        memfds: BTreeMap<u32, Arc<GuestMemfd>>,
    ) -> Result<Self, Malformed> {
        let mut memory = Vec::with_capacity(call.memory.len());
        for piece in &call.memory {
            memory.push((reader.number("at", &piece.at)?, reader.bytes("data", &piece.data)?));
        }
        let faults = line.errno == Some(Errno::EFAULT.to_string());
        let mut user = Self {
            memory: Mutex::new(memory),
            sources: BTreeMap::new(),
            update: None,
            memfds,
            sev_device: call.sev_device,
            faults,
        };
        if line.command == "KVM_SEV_SNP_LAUNCH_UPDATE"
            && let Some(command) = user.reread::<kvm_sev_cmd>(argument)
            && let Some(update) = user.reread::<kvm_sev_snp_launch_update>(command.data)
        {
            user.update = Some((command.data, update.gfn_start));
            for (index, page) in (0_u64..).zip(line.pages.iter().chain(&call.next)) {
                let at = update.uaddr.wrapping_add(index * PAGE_SIZE as u64);
                user.sources.insert(at, reader.page(page)?);
            }
        }
        Ok(user)
    }

    fn reread<T: FromBytes>(&self, at: u64) -> Option<T> {
        let mut data = vec![0; size_of::<T>()];
        self.read(at, &mut data).ok()?;
        T::read_from_bytes(&data).ok()
    }

    /// LAUNCH_UPDATE: how many pages were launched.
    fn launched(&self) -> Option<u64> {
        let (at, first) = self.update?;
        Some(self.reread::<kvm_sev_snp_launch_update>(at)?.gfn_start.wrapping_sub(first))
    }
}

/// The part of a piece that `len` bytes at `address` are.
fn within(start: u64, piece: usize, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let offset = usize::try_from(address.checked_sub(start)?).ok()?;
    let end = offset.checked_add(len)?;
    (end <= piece).then_some(offset..end)
}

impl UserSpace for User {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (start, data) in memory.iter() {
            if let Some(range) = within(*start, data.len(), address, buffer.len()) {
                buffer.copy_from_slice(&data[range]);
                return Ok(());
            }
        }
        Err(Fault)
    }

    fn write(&self, address: u64, new: &[u8]) -> Result<(), Fault> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (start, data) in memory.iter_mut() {
            if let Some(range) = within(*start, data.len(), address, new.len()) {
                data[range].copy_from_slice(new);
                return Ok(());
            }
        }
        if self.faults { Err(Fault) } else { Ok(()) }
    }

    fn page(&self, address: u64, _writable: bool) -> Result<SealedPage, Fault> {
        Ok(match self.sources.get(&address).ok_or(Fault)? {
            Source::Whole(page) => SealedPage::copy_of(page),
            Source::Hash(hash) => SealedPage::known_by_hash(**hash),
            Source::Any => SealedPage::zero(),
        })
    }

    fn is_sev_device(&self, _fd: u32) -> bool {
        self.sev_device
    }

    fn guest_memfd(&self, fd: u32) -> Result<Arc<GuestMemfd>, Errno> {
        self.memfds.get(&fd).cloned().ok_or(Errno::EBADF)
    }
}
