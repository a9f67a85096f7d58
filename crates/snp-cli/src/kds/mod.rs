//! `snp kds serve`: the addresses of AMD's key distribution service, answered with TEST certificates on this machine.

mod answer;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::deferred::Deferred;
use crate::output::{self, tell};

/// A key distribution service for the software platform.
#[derive(Subcommand, Debug)]
pub(crate) enum KdsCommand {
    /// Answer the addresses of AMD's key distribution service with TEST certificates, on this machine only.
    Serve(Deferred<ServeArgs>),
}

/// Answer the addresses of AMD's key distribution service with TEST certificates, on this machine only.
///
/// `/vcek/v1/PRODUCT/HWID?blSPL=…`, `/vlek/v1/PRODUCT/cert?blSPL=…`, and of both `cert_chain` and `crl`. Prints the address
/// that it listens at. Only loopback addresses are taken.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = loopback, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// End after so many requests.
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}: want an address like 127.0.0.1:8080"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{} is not a loopback address: TEST certificates stay on this machine", address.ip()))
    }
}

/// A peer that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request is one line and some headers.
const LONGEST_REQUEST: usize = 16 << 10;

pub(crate) fn run(command: &KdsCommand) -> Result<ExitCode> {
    let KdsCommand::Serve(args) = command;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("--listen {}", args.listen))?;
    output::print(format!("http://{}\n", listener.local_addr()?))?;
    for served in 1.. {
        let (stream, _) = listener.accept().context("accept")?;
        // A peer's failure is its own; the next one is served all the same.
        if let Err(error) = serve(stream) {
            tell!("warning: {error:#}");
        }
        if args.max_requests.is_some_and(|most| served >= most) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream).context("request")?;
    let answer = answer::to(&head);
    let header = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    stream.write_all(header.as_bytes()).context("answer")?;
    stream.write_all(&answer.body).context("answer")
}

/// The request up to the empty line, or as much as is read of it.
fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < LONGEST_REQUEST && !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => break,
            count => head.extend_from_slice(&piece[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:80").is_ok() && loopback("127.9.9.9:1").is_ok());
        for wrong in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "localhost:80", "127.0.0.1"] {
            assert!(loopback(wrong).is_err(), "{wrong}");
        }
    }
}
