//! The messages of USB/IP as the kernel's `Documentation/usb/usbip_protocol.rst` gives them: 48 bytes of big-endian
//! words, behind some of them the data of a transfer.

use std::io::{self, Read, Write};

use super::control::Setup;

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;

/// Status of a transfer that the device refuses (`-EPIPE`).
const REFUSED: i32 = -32;
/// Status of a transfer that was taken back in time (`-ECONNRESET`).
const TAKEN_BACK: i32 = -104;

/// What the host asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// A control transfer; `data` is what it sends, empty towards the host.
    Control { sequence: u32, setup: Setup, data: Vec<u8>, to_host: bool },
    /// Room for `length` bytes from the endpoint of the frames.
    Receive { sequence: u32, length: u32 },
    /// The transfer `victim` is not wanted any more.
    Unlink { sequence: u32, victim: u32 },
}

impl Command {
    /// Reads the next command.
    ///
    /// # Errors
    /// At the end of the connection, and on what no camera is asked.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 48];
        from.read_exact(&mut header)?;
        let mut words = [0; 10];
        for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
        }
        let [command, sequence, _device, to_host, endpoint, word5, length, ..] = words;
        let to_host = to_host == 1;
        match (command, endpoint) {
            (CMD_SUBMIT, 0) => {
                let mut data = vec![0; if to_host { 0 } else { length as usize }];
                from.read_exact(&mut data)?;
                let mut setup = [0; 8];
                setup.copy_from_slice(&header[40..]);
                Ok(Self::Control { sequence, setup: Setup::parse(setup), data, to_host })
            }
            (CMD_SUBMIT, 1) if to_host => Ok(Self::Receive { sequence, length }),
            (CMD_UNLINK, _) => Ok(Self::Unlink { sequence, victim: word5 }),
            _ => Err(io::Error::other(format!("command {command} to endpoint {endpoint}"))),
        }
    }
}

/// Writes the outcome of a control transfer: the answer, or nothing if it was refused. `received` is the length of
/// the data that came with it.
pub(super) fn write_control(
    to: &mut impl Write,
    sequence: u32,
    answer: Option<&[u8]>,
    received: Option<usize>,
) -> io::Result<()> {
    match (answer, received) {
        (None, _) => write(to, RET_SUBMIT, sequence, REFUSED, 0, &[]),
        (Some(_), Some(length)) => write(to, RET_SUBMIT, sequence, 0, length as u32, &[]),
        (Some(data), None) => write_data(to, sequence, data),
    }
}

/// Writes the outcome of a transfer that carries `data` to the host.
pub(super) fn write_data(to: &mut impl Write, sequence: u32, data: &[u8]) -> io::Result<()> {
    write(to, RET_SUBMIT, sequence, 0, data.len() as u32, data)
}

/// Writes that a transfer was taken back, or that it was too late for that.
pub(super) fn write_unlinked(to: &mut impl Write, sequence: u32, in_time: bool) -> io::Result<()> {
    write(to, RET_UNLINK, sequence, if in_time { TAKEN_BACK } else { 0 }, 0, &[])
}

fn write(to: &mut impl Write, command: u32, sequence: u32, status: i32, length: u32, data: &[u8]) -> io::Result<()> {
    let words = [command, sequence, 0, 0, 0, status as u32, length, 0, 0, 0, 0, 0];
    let mut message: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    message.extend(data);
    to.write_all(&message)
}
