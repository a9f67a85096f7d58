//! `snp exec --guest-of`: a launched guest whose /dev/sev-guest and configfs-tsm the program sees.
//!
//! The guest lives here, in `snp` itself: all processes of the program share it, as processes in a guest share its kernel. The
//! library asks over a socket, one connection per call.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, FromArgMatches};
use snp_abi::Errno;
use snp_sev_guest::{Answer, Attribute, Call, Served, SevGuest, TSM_INBLOB_MAX};
use snp_softkvm::Vm;
use snp_transcript::{Line, Replay};
use tempfile::TempDir;

use crate::attestation::{self, SoftHypervisor};
use crate::input;
use crate::launch::{self, LaunchArgs, PlatformName, ProfileName};

/// The most that one call may have.
const CALL_LIMIT: u64 = 1 << 20;
/// How long a connection may take to send its call.
const PATIENCE: Duration = Duration::from_secs(10);

type Guest = Served<SevGuest<SoftHypervisor>>;

/// The socket; it is gone with this.
pub(super) struct GuestSocket {
    directory: TempDir,
}

impl GuestSocket {
    /// Launches what `file` holds and answers for its guest until `snp` ends.
    pub(super) fn open(file: &Path, platform: PlatformName, profile: ProfileName) -> Result<Self> {
        let context = || format!("--guest-of {}", file.display());
        let vm = guest_of(file, platform, profile).with_context(context)?;
        let driver = attestation::driver(&vm).with_context(context)?;
        let guest = Served::new(driver, 0);
        let directory = tempfile::Builder::new().prefix("snp-guest-").tempdir().context("a directory for a socket")?;
        let socket = Self { directory };
        let listener = UnixListener::bind(socket.path()).context("the socket of the guest")?;
        std::thread::spawn(move || serve(&listener, guest));
        Ok(socket)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("guest")
    }
}

/// The VM of a transcript's first finished launch, or of a launch of the image.
fn guest_of(file: &Path, platform: PlatformName, profile: ProfileName) -> Result<Vm> {
    let mut start = Vec::new();
    std::fs::File::open(file)?.take(4).read_to_end(&mut start)?;
    match start.as_slice() {
        [b'{', ..] => replayed(&input::read(file, "transcript", input::IMAGE_LIMIT)?, platform, profile),
        b"IGVM" => launched("--igvm", file, platform),
        _ => launched("--ovmf", file, platform),
    }
}

/// As `snp launch` without further options.
fn launched(option: &str, file: &Path, platform: PlatformName) -> Result<Vm> {
    let command = LaunchArgs::augment_args(clap::Command::new("launch"));
    let matches = command.try_get_matches_from(["launch".as_ref(), option.as_ref(), file.as_os_str()])?;
    launch::launch_guest(&LaunchArgs::from_arg_matches(&matches)?, platform)
}

fn replayed(transcript: &[u8], platform: PlatformName, profile: ProfileName) -> Result<Vm> {
    let mut replay = Replay::new(platform.config(), profile.profile());
    for (number, text) in (1..).zip(transcript.split(|byte| *byte == b'\n')) {
        if !text.is_empty() {
            replay.perform(number, &Line::parse(number, text)?)?;
        }
    }
    let finished = replay.vms().find(|vm| vm.launch_finished()).cloned();
    let Some(vm) = finished else { bail!("no launch of the transcript comes to its end") };
    ensure!(!vm.is_dead(), "the launched VM was moved away");
    Ok(vm)
}

fn serve(listener: &UnixListener, mut guest: Guest) {
    let mut writers = Vec::new();
    for stream in listener.incoming().flatten() {
        // What a program closed before it made this call counts.
        commit(&mut writers, &mut guest);
        // A call that breaks off is its caller's loss.
        if let Ok(Some(writer)) = answer(stream, &mut guest) {
            writers.push(writer);
        }
    }
}

fn answer(mut stream: UnixStream, guest: &mut Guest) -> std::io::Result<Option<Writer>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new((&stream).take(CALL_LIMIT)).read_until(b'\n', &mut line)?;
    let call = Call::from_line(&line);
    let answer = call.as_ref().map_or_else(|_| Answer::failed(Errno::EINVAL), |call| guest.answer(call));
    stream.write_all(&answer.to_line())?;
    match call {
        Ok(Call::OpenForWriting { name, attribute }) if answer.errno == 0 => {
            stream.set_nonblocking(true)?;
            Ok(Some(Writer { name, attribute, stream, data: Vec::new() }))
        }
        _ => Ok(None),
    }
}

/// A file that a program has open for writing: the program's descriptor is the other end of the socket, so that the kernel
/// itself says when its last copy was closed, in whichever process.
struct Writer {
    name: String,
    attribute: Attribute,
    stream: UnixStream,
    data: Vec<u8>,
}

/// Takes what was written, and commits the files that were closed, in the order in which they were opened.
fn commit(writers: &mut Vec<Writer>, guest: &mut Guest) {
    writers.retain_mut(|writer| {
        if !writer.is_closed() {
            return true;
        }
        if !writer.data.is_empty() {
            let (name, data) = (std::mem::take(&mut writer.name), std::mem::take(&mut writer.data));
            // As in Linux, close(2) does not tell what came of it.
            guest.answer(&Call::Write { name, attribute: writer.attribute, data });
        }
        false
    });
}

impl Writer {
    fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                // More than a file takes is refused when it is committed; how much more does not matter.
                Ok(len) => {
                    let room = (TSM_INBLOB_MAX + 1).saturating_sub(self.data.len());
                    self.data.extend_from_slice(&buffer[..len.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}
