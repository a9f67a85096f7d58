//! Parameters: what a loader tells the guest, unmeasured.

use bytes::{Bytes, BytesMut};
use igvm_defs::{IGVM_VHS_MEMORY_MAP_ENTRY, IgvmEnvironmentInfo, MemoryMapEntryType};
use snp_abi::PAGE_SIZE;
use snp_launch::MemoryRegion;
use zerocopy::IntoBytes;

use super::{IgvmError, IgvmFault, ParameterKind};

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) vcpus: u32,
    pub(crate) command_line: &'a str,
    pub(crate) memory: &'a [MemoryRegion],
}

impl Contents<'_> {
    /// The bytes of a parameter; `None` if this loader has nothing to tell, and the guest finds zeros.
    fn bytes(&self, kind: ParameterKind) -> Option<Vec<u8>> {
        Some(match kind {
            ParameterKind::VP_COUNT => self.vcpus.to_le_bytes().to_vec(),
            // Memory that the launch does not cover belongs to the host until the guest asks for it.
            ParameterKind::ENVIRONMENT_INFO => {
                IgvmEnvironmentInfo::new().with_memory_is_shared(true).as_bytes().to_vec()
            }
            ParameterKind::COMMAND_LINE => [self.command_line.as_bytes(), &[0]].concat(),
            ParameterKind::MEMORY_MAP => self.memory_map(),
            _ => return None,
        })
    }

    /// The memory in ascending order, ended by an empty entry.
    fn memory_map(&self) -> Vec<u8> {
        let entry = |region: &MemoryRegion| IGVM_VHS_MEMORY_MAP_ENTRY {
            starting_gpa_page_number: region.gpa.0 / PAGE_SIZE as u64,
            number_of_pages: region.len / PAGE_SIZE as u64,
            entry_type: MemoryMapEntryType::MEMORY,
            flags: 0,
            reserved: 0,
        };
        let end = [0; size_of::<IGVM_VHS_MEMORY_MAP_ENTRY>()];
        self.memory.iter().flat_map(|region| entry(region).as_bytes().to_vec()).chain(end).collect()
    }
}

/// A parameter area while it is filled.
#[derive(Debug)]
pub(crate) struct Area {
    index: u32,
    bytes: BytesMut,
}

impl Area {
    /// `len` was checked against the limit of all areas together.
    pub(crate) fn new(index: u32, len: u64, initial: Option<&Bytes>) -> Self {
        let mut bytes = BytesMut::zeroed(len as usize);
        if let Some(initial) = initial {
            bytes.copy_from_slice(initial);
        }
        Self { index, bytes }
    }

    /// Writes a parameter at byte `at`; `offset` is where its header is in the file. Returns whether there was anything
    /// to tell.
    pub(crate) fn write(
        &mut self,
        kind: ParameterKind,
        at: u32,
        offset: u64,
        contents: &Contents<'_>,
    ) -> Result<bool, IgvmError> {
        let Some(parameter) = contents.bytes(kind) else { return Ok(false) };
        let (len, size) = (parameter.len() as u64, self.bytes.len() as u64);
        let place = self.bytes.get_mut(at as usize..).and_then(|rest| rest.get_mut(..parameter.len()));
        match place {
            Some(place) => place.copy_from_slice(&parameter),
            None => {
                let fault = IgvmFault::ParameterFit { kind, area: self.index, at, len, size };
                return Err(IgvmError::new(offset, fault));
            }
        }
        Ok(true)
    }

    /// The pages.
    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}
