//! `--gdb`: the guest under a debugger that speaks GDB's remote protocol. One thread per vCPU; while one vCPU is stepped, the
//! others stand still.

mod registers;
mod target;
mod watch;

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason, run_blocking};

use self::target::{Debugged, Happened};
use super::end::End;
use super::guest::Guest;
use super::schedule::{Limits, Piece};
use crate::output::tell;

/// Waits for a debugger and lets it run the guest. When it goes without a word, the guest runs on.
pub(super) fn serve(guest: &Guest, limits: &Limits, address: SocketAddr) -> Result<End> {
    let listener = TcpListener::bind(address).with_context(|| format!("--gdb {address}"))?;
    tell!("waiting for gdb: target remote {}", listener.local_addr()?);
    let (connection, _) = listener.accept().with_context(|| format!("--gdb {address}"))?;
    let mut target = Debugged::new(guest, limits);
    let outcome = GdbStub::new(connection).run_blocking::<Loop<'_>>(&mut target);
    if let Some(end) = target.end.take() {
        return Ok(end);
    }
    match outcome {
        Ok(DisconnectReason::Kill) => Ok(End::Killed),
        Ok(_) => Ok(run_on(target)),
        Err(error) => {
            tell!("gdb: {error}; the guest runs on");
            Ok(run_on(target))
        }
    }
}

fn run_on(mut target: Debugged<'_>) -> End {
    loop {
        if let Some(end) = target.limits.reached(target.turn.executed) {
            return end;
        }
        if let Piece::End(end) = target.turn.run(target.guest, u64::MAX, &[]) {
            return end;
        }
    }
}

/// Runs the guest while the debugger waits.
struct Loop<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> run_blocking::BlockingEventLoop for Loop<'a> {
    type Target = Debugged<'a>;
    type Connection = TcpStream;
    type StopReason = MultiThreadStopReason<u64>;

    fn wait_for_stop_reason(
        target: &mut Debugged<'a>,
        connection: &mut TcpStream,
    ) -> Result<run_blocking::Event<Self::StopReason>, run_blocking::WaitForStopReasonError<&'static str, std::io::Error>>
    {
        let asked = || connection.peek().map_or(true, |byte| byte.is_some());
        match target.run(asked) {
            Happened::Stopped(reason) => Ok(run_blocking::Event::TargetStopped(reason)),
            Happened::Asked => {
                let byte = connection.read().map_err(run_blocking::WaitForStopReasonError::Connection)?;
                Ok(run_blocking::Event::IncomingData(byte))
            }
        }
    }

    fn on_interrupt(target: &mut Debugged<'a>) -> Result<Option<Self::StopReason>, &'static str> {
        Ok(Some(target.interrupted()))
    }
}
