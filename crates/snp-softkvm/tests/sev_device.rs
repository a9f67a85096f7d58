//! /dev/sev: every command and every refusal, by errno, firmware status and what is left.

use snp_abi::{Errno, FwStatus, SnpPlatformStatus};
use snp_asp::PlatformConfig;
use snp_softkvm::ioctl::Object;
use snp_softkvm::{Process, SevDevice, SoftKvm, UserSpace, profiles};
use zerocopy::{FromBytes, IntoBytes};

const SEV_ISSUE_CMD: u32 = 0xc010_5300;
const GET_ID2: u32 = 8;
const SNP_PLATFORM_STATUS: u32 = 9;
const SNP_COMMIT: u32 = 10;
const SNP_SET_CONFIG: u32 = 11;
const SNP_VLEK_LOAD: u32 = 12;

struct Bench {
    kvm: SoftKvm,
    device: SevDevice,
    process: Process,
}

impl Bench {
    fn new() -> Self {
        let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::MAINLINE);
        Self { device: kvm.sev_device(), kvm, process: Process::new() }
    }

    /// The answer, what the command left in `error` (`u32::MAX` as it was), and the device.
    fn issue_on(&self, device: SevDevice, id: u32, data: u64) -> (Result<(), Errno>, u32) {
        let mut command = [0xff; 16];
        command[..4].copy_from_slice(&id.to_le_bytes());
        command[4..12].copy_from_slice(&data.to_le_bytes());
        let address = self.process.buffer(&command);
        let answer = Object::Sev(device).ioctl(&self.process, SEV_ISSUE_CMD, address).map(drop);
        let after = self.process.unmap(address).unwrap();
        (answer, u32::from_le_bytes(after[12..].try_into().unwrap()))
    }

    fn issue(&self, id: u32, data: u64) -> (Result<(), Errno>, u32) {
        self.issue_on(self.device.clone(), id, data)
    }

    fn status(&self) -> SnpPlatformStatus {
        let address = self.process.buffer(SnpPlatformStatus::default().as_bytes());
        assert_eq!(self.issue(SNP_PLATFORM_STATUS, address), (Ok(()), 0));
        SnpPlatformStatus::read_from_bytes(&self.process.unmap(address).unwrap()).unwrap()
    }

    /// REPORTED_TCB and flags.
    fn config(&self, tcb: u64, flags: u32) -> u64 {
        let mut config = [0; 64];
        config[..8].copy_from_slice(&tcb.to_le_bytes());
        config[8..12].copy_from_slice(&flags.to_le_bytes());
        self.process.buffer(&config)
    }

    /// Length, version and address of a wrapped hashstick.
    fn vlek(&self, len: u32, version: u8, address: u64) -> u64 {
        let mut request = [0; 16];
        request[..4].copy_from_slice(&len.to_le_bytes());
        request[4] = version;
        request[8..].copy_from_slice(&address.to_le_bytes());
        self.process.buffer(&request)
    }
}

const NOWHERE: u64 = 0x10;
/// What `error` holds after an ioctl that returned before any command.
const UNTOUCHED: u32 = u32::MAX;

#[test]
fn the_ioctl_itself() {
    let bench = Bench::new();
    let device = || Object::Sev(bench.device.clone());
    assert_eq!(device().ioctl(&bench.process, SEV_ISSUE_CMD, NOWHERE).unwrap_err(), Errno::EFAULT);
    assert_eq!(device().ioctl(&bench.process, 0xae00, 0).unwrap_err(), Errno::EINVAL);
    for unknown in [13, 14, u32::MAX] {
        assert_eq!(bench.issue(unknown, 0), (Err(Errno::EINVAL), UNTOUCHED));
    }
    assert!(bench.kvm.unmodelled().is_empty());
    for not_modelled in [0, 2, 3, 4, 5, 6, 7] {
        assert_eq!(bench.issue(not_modelled, 0), (Err(Errno::ENOSYS), 0));
    }
    assert_eq!(bench.kvm.unmodelled().len(), 7);
}

#[test]
fn the_configuration_is_what_is_reported() {
    let bench = Bench::new();
    let before = bench.status();
    let tcb = before.current_tcb_version.0;
    assert_eq!(bench.issue(SNP_SET_CONFIG, bench.config(tcb - 1, 1)), (Ok(()), 0));
    let status = bench.status();
    assert_eq!((status.reported_tcb_version.0, status.current_tcb_version.0, status.flags & 3), (tcb - 1, tcb, 1));
    for wrong in [bench.config(tcb + 1, 0), bench.config(tcb, 4)] {
        assert_eq!(bench.issue(SNP_SET_CONFIG, wrong), (Err(Errno::EIO), FwStatus::INVALID_PARAM.0));
        assert_eq!(bench.status(), status);
    }
    assert_eq!(bench.issue(SNP_SET_CONFIG, 0).0, Err(Errno::EINVAL));
    assert_eq!(bench.issue(SNP_SET_CONFIG, NOWHERE).0, Err(Errno::EFAULT));
    let reader = bench.device.clone().read_only();
    assert_eq!(bench.issue_on(reader, SNP_SET_CONFIG, bench.config(0, 0)).0, Err(Errno::EPERM));
    assert_eq!(bench.status(), status);
    assert_eq!(bench.issue(SNP_COMMIT, 0), (Ok(()), 0));
    assert_eq!(bench.status().reported_tcb_version.0, tcb);
}

#[test]
fn a_vlek() {
    const VLEK_EN: u32 = 1 << 2;
    let bench = Bench::new();
    let hashstick = bench.process.buffer(&[0x5a; 432]);
    let short = bench.process.buffer(&[0x5a; 431]);
    for (request, errno) in [
        (0, Errno::EINVAL),
        (NOWHERE, Errno::EFAULT),
        (bench.vlek(15, 0, hashstick), Errno::EINVAL),
        (bench.vlek(16, 1, hashstick), Errno::EINVAL),
        (bench.vlek(16, 0, 0), Errno::EINVAL),
        (bench.vlek(16, 0, short), Errno::EFAULT),
    ] {
        assert_eq!(bench.issue(SNP_VLEK_LOAD, request).0, Err(errno));
        assert_eq!(bench.status().flags & VLEK_EN, 0);
    }
    let reader = bench.device.clone().read_only();
    assert_eq!(bench.issue_on(reader, SNP_VLEK_LOAD, bench.vlek(16, 0, hashstick)).0, Err(Errno::EPERM));
    assert_eq!(bench.issue(SNP_VLEK_LOAD, bench.vlek(16, 0, hashstick)), (Ok(()), 0));
    assert_eq!(bench.status().flags & VLEK_EN, VLEK_EN);
}

#[test]
fn the_chips_id() {
    let bench = Bench::new();
    let buffer = bench.process.buffer(&[0; 64]);
    let request =
        |address: u64, len: u32| bench.process.buffer(&[address.to_le_bytes().as_slice(), &len.to_le_bytes()].concat());
    let len_at = |request: u64| {
        let mut len = [0; 4];
        bench.process.read(request + 8, &mut len).unwrap();
        u32::from_le_bytes(len)
    };
    for (address, len) in [(0, 0), (buffer, 0), (0, 64), (buffer, 63)] {
        let asked = request(address, len);
        assert_eq!(bench.issue(GET_ID2, asked), (Err(Errno::EIO), FwStatus::INVALID_LEN.0));
        assert_eq!(len_at(asked), 64);
    }
    let mut id = [0; 64];
    bench.process.read(buffer, &mut id).unwrap();
    assert_eq!(id, [0; 64], "nothing was written");
    assert_eq!(bench.issue(GET_ID2, request(buffer, 64)), (Ok(()), 0));
    bench.process.read(buffer, &mut id).unwrap();
    assert_ne!(id, [0; 64]);
    assert_eq!(bench.issue(GET_ID2, request(NOWHERE, 64)).0, Err(Errno::EFAULT));
    assert_eq!(bench.issue(SNP_PLATFORM_STATUS, 0).0, Err(Errno::EINVAL));
    assert_eq!(bench.issue(SNP_PLATFORM_STATUS, NOWHERE).0, Err(Errno::EFAULT));
}
