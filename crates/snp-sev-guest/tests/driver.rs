//! The driver, its ioctls and its files, against a hypervisor that does as it is told.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use snp_abi::sev_guest::*;
use snp_abi::{Errno, FwStatus, GuestMessageHeader, MessageType, PAGE_SIZE, ReportResponseHeader};
use snp_sev_guest::{
    Answer, Attribute, Call, Channel, Driver, Failure, Hypervisor, MessagePage, Place, Served, SevGuest, UserMemory,
    ioctl,
};
use zerocopy::{FromBytes, IntoBytes};

const KEY: [u8; 32] = [9; 32];

/// Answers with what is queued, then with success; remembers the sequence numbers.
#[derive(Debug, Default)]
struct Told {
    codes: Vec<u64>,
    seqnos: Vec<u64>,
    extended: usize,
    /// STATUS of reports.
    status: u32,
    certificates: Vec<u8>,
}

const TOO_SMALL: u64 = 1 << 32;
const BUSY: u64 = 2 << 32;

impl Told {
    fn answer(&mut self, request: &MessagePage, response: &mut MessagePage) -> u64 {
        let (header, _) = GuestMessageHeader::read_from_prefix(request.as_slice()).unwrap();
        self.seqnos.push(header.msg_seqno);
        let code = if self.codes.is_empty() { 0 } else { self.codes.remove(0) };
        if code == 0 {
            let payload = match header.msg_type {
                MessageType::REPORT_REQ => {
                    let mut report = request[0x60..0xc0].to_vec();
                    report.resize(0x4a0, 7);
                    let head = ReportResponseHeader { status: self.status, report_size: 0x4a0, ..Default::default() };
                    [head.as_bytes(), &report].concat()
                }
                _ => vec![5; 64],
            };
            let channel = Channel::resume(header.msg_vmpck, KEY, header.msg_seqno);
            *response = *channel.seal(header.msg_type.response(), header.msg_version, &payload);
        }
        code
    }
}

#[derive(Debug)]
struct Shared<'a>(&'a RefCell<Told>);

impl Hypervisor for Shared<'_> {
    fn guest_request(&mut self, request: &MessagePage, response: &mut MessagePage) -> u64 {
        self.0.borrow_mut().answer(request, response)
    }

    fn extended_guest_request(
        &mut self,
        request: &MessagePage,
        response: &mut MessagePage,
        room: &mut [u8],
    ) -> (u64, u64) {
        let mut told = self.0.borrow_mut();
        told.extended += 1;
        let table = told.certificates.clone();
        match room.get_mut(..table.len()) {
            Some(room) => room.copy_from_slice(&table),
            None => return (TOO_SMALL, table.len().div_ceil(PAGE_SIZE) as u64),
        }
        (told.answer(request, response), 0)
    }
}

fn told(codes: &[u64]) -> RefCell<Told> {
    RefCell::new(Told { codes: codes.to_vec(), ..Told::default() })
}

fn driver(told: &RefCell<Told>) -> SevGuest<Shared<'_>> {
    SevGuest::new(Channel::resume(0, KEY, 0), Shared(told))
}

const REQUEST: snp_report_req = snp_report_req { user_data: [3; 64], vmpl: 0, rsvd: [0; 28] };

#[test]
fn sequence_numbers_go_in_twos() {
    let told = told(&[]);
    let mut driver = driver(&told);
    driver.report(1, &REQUEST).unwrap();
    driver.derived_key(1, &snp_derived_key_req::default()).unwrap();
    driver.message(MessageType::TSC_INFO_REQ, 1, &[0; 128]).unwrap();
    assert_eq!(told.borrow().seqnos, [1, 3, 5]);
}

/// No sequence number is used for two messages: a failure wipes the key.
#[test]
fn a_failure_wipes_the_key() {
    for code in [FwStatus::BAD_MEASUREMENT.0.into(), 0xffff_ffff << 32, 3 << 32, TOO_SMALL] {
        let told = told(&[code]);
        let mut driver = driver(&told);
        assert_eq!(driver.report(1, &REQUEST), Err(Failure { errno: Errno::EIO, exitinfo2: code, certs_len: 0 }));
        assert_eq!(driver.vmpck(), None);
        assert_eq!(driver.report(1, &REQUEST), Err(Failure::not_asked(Errno::ENOTTY)));
        assert_eq!(told.borrow().seqnos, [1]);
    }
    let told = told(&[]);
    let mut driver = SevGuest::new(Channel::resume(0, [8; 32], 0), Shared(&told));
    assert_eq!(driver.report(1, &REQUEST).unwrap_err().errno, Errno::EBADMSG);
    assert_eq!(driver.report(1, &REQUEST).unwrap_err().errno, Errno::ENOTTY);
}

#[test]
fn a_busy_hypervisor_is_asked_again_with_the_same_message() {
    let told = told(&[BUSY, BUSY]);
    driver(&told).report(1, &REQUEST).unwrap();
    assert_eq!(told.borrow().seqnos, [1, 1, 1]);
    let told = self::told(&[BUSY; 100]);
    let failure = driver(&told).report(1, &REQUEST).unwrap_err();
    assert_eq!((failure.errno, failure.exitinfo2), (Errno::ETIMEDOUT, BUSY));
}

/// The report is asked for without them, so that its sequence number is used up; the caller is told how much there is.
#[test]
fn certificates_that_do_not_fit_are_told() {
    let told = told(&[]);
    told.borrow_mut().certificates = vec![0xc; 5000];
    let mut driver = driver(&told);
    let failure = Failure { errno: Errno::EIO, exitinfo2: TOO_SMALL, certs_len: 8192 };
    for len in [0, 4096] {
        assert_eq!(driver.extended_report(1, &REQUEST, len), Err(failure));
    }
    let extended = driver.extended_report(1, &REQUEST, 8192).unwrap();
    assert_eq!((&extended.certificates[..5000], &extended.certificates[5000..]), (&[0xc; 5000][..], &[0; 3192][..]));
    assert_eq!((told.borrow().seqnos.as_slice(), told.borrow().extended), (&[1, 3, 5][..], 3));
    for len in [1, 4095, 0x5000] {
        assert_eq!(driver.extended_report(1, &REQUEST, len), Err(Failure::not_asked(Errno::EINVAL)));
    }
    assert_eq!(told.borrow().extended, 3);
}

#[test]
fn linux_has_32_bits_for_sequence_numbers() {
    let told = told(&[]);
    let mut driver = SevGuest::new(Channel::resume(0, KEY, u64::from(u32::MAX) - 3), Shared(&told));
    driver.report(1, &REQUEST).unwrap();
    assert_eq!(driver.report(1, &REQUEST), Err(Failure::not_asked(Errno::EIO)));
}

/// Memory in pieces; addresses outside of them fault.
struct Memory(RefCell<BTreeMap<u64, Vec<u8>>>);

impl Memory {
    fn of(&self, address: u64, len: usize, each: impl FnOnce(&mut [u8])) -> Result<(), Errno> {
        let mut pieces = self.0.borrow_mut();
        let (start, piece) = pieces.range_mut(..=address).next_back().ok_or(Errno::EFAULT)?;
        let at = (address - start) as usize;
        each(piece.get_mut(at..at.saturating_add(len)).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn piece(&self, at: u64) -> Vec<u8> {
        self.0.borrow()[&at].clone()
    }
}

impl UserMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.of(address, buffer.len(), |piece| buffer.copy_from_slice(piece))
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        self.of(address, data.len(), |piece| piece.copy_from_slice(data))
    }
}

const ARGUMENT: u64 = 0x1000;
const DATA: u64 = 0x2000;
const RESPONSE: u64 = 0x3000;
const CERTS: u64 = 0x10_000;

fn memory(version: u8, data: &[u8]) -> Memory {
    let argument = snp_guest_request_ioctl {
        msg_version: version,
        padding_0x1: [0x5a; 7],
        req_data: DATA,
        resp_data: RESPONSE,
        exitinfo2: 0x1234,
    };
    let pieces = [
        (ARGUMENT, argument.as_bytes().to_vec()),
        (DATA, data.to_vec()),
        (RESPONSE, vec![0xee; 4000]),
        (CERTS, vec![0xee; 0x2000]),
    ];
    Memory(RefCell::new(pieces.into()))
}

fn exitinfo2(memory: &Memory) -> u64 {
    snp_guest_request_ioctl::read_from_bytes(&memory.piece(ARGUMENT)).unwrap().exitinfo2
}

#[test]
fn ioctls_copy_what_they_should() {
    let told = told(&[]);
    told.borrow_mut().certificates = vec![0xc; 4096];
    let mut driver = driver(&told);
    let at = memory(1, REQUEST.as_bytes());
    assert_eq!(ioctl(&mut driver, &at, SNP_GET_REPORT, ARGUMENT), Ok(()));
    assert_eq!((exitinfo2(&at), &at.piece(RESPONSE)[..8]), (0x1234, &[0, 0, 0, 0, 0xa0, 4, 0, 0][..]));
    assert_eq!(at.piece(RESPONSE)[0x4c0..], [0; 4000 - 0x4c0]);

    let at = memory(1, &[0; 32]);
    assert_eq!(ioctl(&mut driver, &at, SNP_GET_DERIVED_KEY, ARGUMENT), Ok(()));
    assert_eq!((&at.piece(RESPONSE)[..64], at.piece(RESPONSE)[64]), (&[5; 64][..], 0xee));

    let extended = |certs_address, certs_len| snp_ext_report_req {
        data: REQUEST,
        certs_address,
        certs_len,
        padding_0x6c: 0x5a5a_5a5a,
    };
    let at = memory(1, extended(CERTS, 0x1000).as_bytes());
    assert_eq!(ioctl(&mut driver, &at, SNP_GET_EXT_REPORT, ARGUMENT), Ok(()));
    assert_eq!((at.piece(CERTS)[0xfff], at.piece(CERTS)[0x1000]), (0xc, 0xee));

    // A buffer without address is none, and the length that is needed comes back.
    for (address, len) in [(0, 0x1000), (CERTS, 0)] {
        let at = memory(1, extended(address, len).as_bytes());
        assert_eq!(ioctl(&mut driver, &at, SNP_GET_EXT_REPORT, ARGUMENT), Err(Errno::EIO));
        let request = snp_ext_report_req::read_from_bytes(&at.piece(DATA)).unwrap();
        assert_eq!((exitinfo2(&at), request), (TOO_SMALL, extended(address, 0x1000)));
        assert_eq!(at.piece(RESPONSE), [0xee; 4000]);
    }
}

#[test]
fn ioctls_refuse_in_linuxs_order() {
    let told = told(&[]);
    let mut driver = driver(&told);
    let mut ask = |at: &Memory, request| ioctl(&mut driver, at, request, ARGUMENT);
    assert_eq!(ask(&Memory(RefCell::default()), SNP_GET_REPORT), Err(Errno::EFAULT));
    // The version is looked at before the request.
    assert_eq!(ask(&memory(0, REQUEST.as_bytes()), 1), Err(Errno::EINVAL));
    let at = memory(1, REQUEST.as_bytes());
    assert_eq!((ask(&at, 0xc020_5303), exitinfo2(&at)), (Err(Errno::ENOTTY), 0xff));
    for (req_data, resp_data, errno) in
        [(0, RESPONSE, Errno::EINVAL), (DATA, 0, Errno::EINVAL), (1, RESPONSE, Errno::EFAULT)]
    {
        let at = memory(1, REQUEST.as_bytes());
        let argument = snp_guest_request_ioctl { msg_version: 1, req_data, resp_data, ..Default::default() };
        at.write(ARGUMENT, argument.as_bytes()).unwrap();
        assert_eq!((ask(&at, SNP_GET_REPORT), exitinfo2(&at)), (Err(errno), 0xff));
    }
    assert!(told.borrow().seqnos.is_empty());
}

fn served(told: &RefCell<Told>, floor: u32) -> Served<SevGuest<Shared<'_>>> {
    Served::new(driver(told), floor)
}

fn write(name: &str, attribute: Attribute, data: &[u8]) -> Call {
    Call::Write { name: name.into(), attribute, data: data.to_vec() }
}

fn read(name: &str, attribute: Attribute) -> Call {
    Call::Read { name: name.into(), attribute }
}

/// The answer to each call: its errno, or the text of its data.
fn played(served: &mut Served<SevGuest<Shared<'_>>>, calls: &[(Call, Result<&[u8], Errno>)]) {
    for (call, expected) in calls {
        let answer = served.answer(call).data();
        assert_eq!(answer.as_deref().map_err(|errno| *errno), *expected, "{call:?}");
    }
}

#[test]
fn files_of_an_entry() {
    let told = told(&[]);
    let name = || "r".to_owned();
    let nothing: Result<&[u8], Errno> = Ok(&[]);
    let mut served = served(&told, 1);
    played(
        &mut served,
        &[
            (Call::Find { name: name() }, Err(Errno::ENOENT)),
            (read("r", Attribute::Provider), Err(Errno::ENOENT)),
            (Call::Make { name: name() }, nothing),
            (Call::Make { name: name() }, Err(Errno::EEXIST)),
            (Call::Make { name: "x".repeat(256) }, Err(Errno::ENAMETOOLONG)),
            (read("r", Attribute::Provider), Ok(b"sev_guest\n")),
            (read("r", Attribute::Generation), Ok(b"0\n")),
            (read("r", Attribute::PrivlevelFloor), Ok(b"1\n")),
            (read("r", Attribute::Inblob), Err(Errno::EACCES)),
            (write("r", Attribute::Outblob, b"1"), Err(Errno::EACCES)),
            (Call::OpenForWriting { name: name(), attribute: Attribute::Outblob }, Err(Errno::EACCES)),
            (Call::OpenForWriting { name: name(), attribute: Attribute::Inblob }, nothing),
            (read("r", Attribute::Outblob), Err(Errno::EINVAL)),
            (write("r", Attribute::Inblob, &[1; 65]), Err(Errno::EFBIG)),
            (write("r", Attribute::Inblob, &[1; 63]), nothing),
            (read("r", Attribute::Outblob), Err(Errno::EINVAL)),
            (write("r", Attribute::Inblob, &[1; 64]), nothing),
            (read("r", Attribute::Generation), Ok(b"2\n")),
        ],
    );
    assert_eq!(served.answer(&read("r", Attribute::Outblob)).data().unwrap().len(), 0x4a0);
    assert_eq!(served.answer(&read("r", Attribute::Auxblob)).data(), Ok(vec![]));
    // One report for both, and for who reads again.
    assert_eq!(told.borrow().seqnos, [1]);
    played(&mut served, &[(write("r", Attribute::Privlevel, b"2"), nothing)]);
    served.answer(&read("r", Attribute::Outblob)).data().unwrap();
    assert_eq!(told.borrow().seqnos, [1, 3]);
    played(
        &mut served,
        &[
            (Call::Remove { name: name() }, nothing),
            (Call::Remove { name: name() }, Err(Errno::ENOENT)),
            (write("r", Attribute::Privlevel, b"2"), Err(Errno::ENOENT)),
        ],
    );
}

#[test]
fn what_the_firmware_thinks_is_an_errno() {
    for (status, errno) in [(0x16, Errno::EINVAL), (0x27, Errno::EINVAL), (1, Errno::ENXIO)] {
        let told = told(&[]);
        told.borrow_mut().status = status;
        let mut served = served(&told, 0);
        served.answer(&Call::Make { name: "r".into() });
        served.answer(&write("r", Attribute::Inblob, &[1; 64]));
        assert_eq!(served.answer(&read("r", Attribute::Outblob)).data(), Err(errno));
    }
}

#[test]
fn privilege_levels_are_the_kernels_numbers() {
    let told = told(&[]);
    let mut served = served(&told, 1);
    served.answer(&Call::Make { name: "r".into() });
    for good in ["1", "3\n", "+2", "0x3", "0X1\n", "03"] {
        assert_eq!(served.answer(&write("r", Attribute::Privlevel, good.as_bytes())).errno, 0, "{good:?}");
    }
    for bad in ["", "\n", "0", "4", "-1", "1 ", "1\n\n", "0x", "0x-1", "+-1", "09", "99999999999", "\u{ff11}"] {
        let answer = served.answer(&write("r", Attribute::Privlevel, bad.as_bytes()));
        assert_eq!(answer.errno, Errno::EINVAL.0, "{bad:?}");
    }
}

#[test]
fn a_certificate_table_ends_where_its_last_certificate_does() {
    let told = told(&[]);
    let entry = |offset: u32, len: u32| [&[1; 16][..], &offset.to_le_bytes(), &len.to_le_bytes()].concat();
    let mut table = [entry(72, 10), entry(82, 5), vec![0; 24]].concat();
    table.resize(87, 0xce);
    told.borrow_mut().certificates = table.clone();
    let mut served = served(&told, 0);
    served.answer(&Call::Make { name: "r".into() });
    served.answer(&write("r", Attribute::Inblob, &[1; 64]));
    assert_eq!(served.answer(&read("r", Attribute::Auxblob)).data(), Ok(table));
}

#[test]
fn paths() {
    let of = |path| Place::of(path);
    assert_eq!(of("/sys/kernel/config/tsm"), Some(Place::Directory));
    assert_eq!(of("/sys/kernel/config/tsm/report/"), Some(Place::Directory));
    assert_eq!(of("/sys/kernel/config/tsm/report//a/"), Some(Place::Entry("a")));
    assert_eq!(of("/sys/kernel/config/tsm/report/a/inblob"), Some(Place::File("a", Attribute::Inblob)));
    for nothing in ["/other", "/report/a/b", "/report/a/inblob/c", "/other/a/inblob"] {
        let path = format!("/sys/kernel/config/tsm{nothing}");
        assert_eq!(Place::of(&path), Some(Place::Nothing), "{path}");
    }
    for outside in ["", "/", "/sys/kernel/config", "/sys/kernel/config/tsmx", "sys/kernel/config/tsm"] {
        assert_eq!(of(outside), None, "{outside}");
    }
}

proptest! {
    /// Calls and answers survive their lines; a driver behind lines is the driver.
    #[test]
    fn lines(name in ".{0,20}", data in prop::collection::vec(any::<u8>(), 0..100), version in 1..4_u8) {
        let call = write(&name, Attribute::Inblob, &data);
        prop_assert_eq!(Call::from_line(&call.to_line()), Ok(call));
        let (here, there) = (told(&[]), told(&[]));
        let mut served = self::served(&there, 0);
        let mut remote = |call: &Call| {
            let call = Call::from_line(&call.to_line()).unwrap();
            Answer::from_line(&served.answer(&call).to_line())
        };
        prop_assert_eq!(Driver::report(&mut remote, version, &REQUEST), driver(&here).report(version, &REQUEST));
        let garbage = Answer::from_line(&data);
        prop_assert!(garbage.errno != 0);
    }
}
