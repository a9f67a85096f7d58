//! Finds CPUID instructions by decoding functions from their starts.
//!
//! The two bytes of CPUID also occur within other instructions and in tables. The program's unwind table lists where its
//! functions start; a place counts only if decoding from such a start comes upon it as an instruction.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

/// A program in memory: what [`super::patch`] found in its headers.
pub(crate) struct Program<'a> {
    /// Executable segments: address and contents.
    pub(crate) code: Vec<(u64, &'a [u8])>,
    /// `.eh_frame_hdr`: address and contents.
    pub(crate) unwind: (u64, &'a [u8]),
}

const CPUID: [u8; 2] = [0x0f, 0xa2];

/// The addresses of all CPUID instructions.
///
/// # Errors
/// The unwind table is not of the kind that linkers write.
pub(crate) fn places(program: &Program<'_>) -> Result<Vec<u64>, String> {
    let functions = functions(program.unwind)?;
    let mut found = Vec::new();
    for &(base, code) in &program.code {
        let candidates = code.windows(2).enumerate().filter(|(_, bytes)| *bytes == CPUID);
        for (offset, _) in candidates {
            let place = base + offset as u64;
            let at = functions.partition_point(|start| *start <= place);
            let Some(&start) = at.checked_sub(1).and_then(|index| functions.get(index)) else { continue };
            if start >= base && is_instruction(code, base, start, place) {
                found.push(place);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether decoding from `start` comes upon a CPUID at `place`.
fn is_instruction(code: &[u8], base: u64, start: u64, place: u64) -> bool {
    let from = (start - base) as usize;
    let mut decoder = Decoder::with_ip(64, &code[from..], start, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.ip() < place {
        if decoder.decode().is_invalid() {
            return false;
        }
    }
    decoder.ip() == place && decoder.can_decode() && decoder.decode().mnemonic() == Mnemonic::Cpuid
}

/// The starts of functions, in order.
///
/// # Source
/// Linux Standard Base 5.0, ".eh_frame_hdr": version, three encodings, and with the usual ones a table of pairs of 32-bit
/// offsets from its own address.
fn functions((address, table): (u64, &[u8])) -> Result<Vec<u64>, String> {
    /// Version 1; frame pointer sdata4, PC-relative; count udata4; table sdata4, relative to the table's own address.
    const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    const HEADER: usize = 12;
    let header = table.get(..HEADER).ok_or("the program's unwind table is cut short")?;
    if header[..4] != USUAL {
        return Err(format!("the program's unwind table has encodings {:02x?}, want {USUAL:02x?}", &header[..4]));
    }
    let count = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let pairs = table[HEADER..].chunks_exact(8).take(count);
    let start = |pair: &[u8]| {
        let offset = i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
        address.wrapping_add_signed(offset.into())
    };
    Ok(pairs.map(start).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.eh_frame_hdr` at 0x5000 for functions at these addresses.
    fn unwind(starts: &[u64]) -> Vec<u8> {
        let mut table = vec![1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0];
        table.extend((starts.len() as u32).to_le_bytes());
        for start in starts {
            table.extend((*start as i32 - 0x5000).to_le_bytes());
            table.extend([0; 4]);
        }
        table
    }

    #[test]
    fn only_instructions_count() {
        let code = [
            0xb8, 0x0f, 0xa2, 0x00, 0x00, // mov eax, 0xa20f: the bytes within an immediate
            0x0f, 0xa2, // cpuid
            0xc3, // ret
            0x0f, 0xa2, 0x0f, 0xa2, // data before the next function, reached from the first: decoded as code
            0x90, 0x0f, 0xa2, // nop; cpuid
        ];
        let table = unwind(&[0x1000, 0x100c]);
        let program = Program { code: vec![(0x1000, &code)], unwind: (0x5000, &table) };
        assert_eq!(places(&program), Ok(vec![0x1005, 0x1008, 0x100a, 0x100d]));
    }

    #[test]
    fn a_foreign_table_is_refused() {
        let program = Program { code: Vec::new(), unwind: (0x5000, &[1, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]) };
        assert!(places(&program).unwrap_err().contains("encodings"));
        assert!(places(&Program { code: Vec::new(), unwind: (0, &[]) }).unwrap_err().contains("cut short"));
    }
}
