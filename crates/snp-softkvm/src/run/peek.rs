//! Guest memory as a debugger sees it: by linear address, without any check, and without any trace in the RMP.

use snp_abi::PAGE_SIZE;
use snp_memory::HostPage;
use snp_vcpu::State;

use crate::memory::C_BIT;
use crate::{UserSpace, Vcpu, lock};

const PAGE: u64 = PAGE_SIZE as u64;
/// CR0.PG, CR4.PAE, CR4.LA57, EFER.LMA.
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;
const LMA: u64 = 1 << 10;
/// Present; a large page.
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
/// The address in an entry of eight bytes, without the C-bit.
const FRAME: u64 = 0x000f_ffff_ffff_f000 & !(1 << C_BIT);

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Physical {
    gpa: u64,
    private: bool,
}

impl Vcpu {
    /// How many instructions the vCPU began so far. Waits while another thread runs it.
    pub fn instructions(&self) -> u64 {
        lock(&self.inner.running).state.instructions
    }

    /// Reads memory as a processor in that state sees it. Returns how many bytes there were: reading ends at the first page
    /// that is not mapped or not there.
    pub fn peek(&self, user: &dyn UserSpace, state: &State, linear: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some((page, offset)) = self.page_at(user, state, linear.wrapping_add(done as u64)) else { break };
            let len = (PAGE_SIZE - offset).min(buffer.len() - done);
            page.read(offset, &mut buffer[done..done + len]);
            done += len;
        }
        done
    }

    /// Writes memory likewise; returns how many bytes were written.
    pub fn poke(&self, user: &dyn UserSpace, state: &State, linear: u64, data: &[u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let Some((page, offset)) = self.page_at(user, state, linear.wrapping_add(done as u64)) else { break };
            let len = (PAGE_SIZE - offset).min(data.len() - done);
            page.write(offset, &data[done..done + len]);
            self.vm.memory.code_changed(&page);
            done += len;
        }
        done
    }

    fn page_at(&self, user: &dyn UserSpace, state: &State, linear: u64) -> Option<(HostPage, usize)> {
        let physical = self.translate(user, state, linear)?;
        Some((self.page(user, physical)?, (physical.gpa % PAGE) as usize))
    }

    /// The page as the guest means it: of the guest_memfd, or shared.
    fn page(&self, user: &dyn UserSpace, physical: Physical) -> Option<HostPage> {
        let gfn = physical.gpa / PAGE;
        let layout = self.vm.memory.layout();
        let slot = layout.slots.find(gfn)?;
        if physical.private && self.vm.is_snp() {
            let (memfd, first) = slot.guest_memfd.as_ref()?;
            return Some(memfd.upgrade()?.host_page(first + (gfn - slot.base_gfn)));
        }
        let address = slot.user_address(gfn);
        drop(layout);
        user.host_page(address, false).ok()
    }

    fn translate(&self, user: &dyn UserSpace, state: &State, linear: u64) -> Option<Physical> {
        if state.cr0 & PG == 0 {
            return Some(Physical { gpa: linear, private: state.sev });
        }
        if state.cr4 & PAE == 0 {
            return self.walk_32(user, state, linear);
        }
        let (levels, mut table) = match (state.efer & LMA != 0, state.cr4 & LA57 != 0) {
            (true, true) => (5, state.cr3),
            (true, false) => (4, state.cr3),
            (false, _) => (3, state.cr3 & 0xffff_ffe0),
        };
        // Of PAE's four pointers the table is not a page; all others are.
        let mut in_page = if levels == 3 { table & 0xfe0 } else { 0 };
        for level in (0..levels).rev() {
            let private = state.sev && (table >> C_BIT & 1 != 0 || levels == 3 && level == 2);
            let index = linear >> (12 + 9 * level) & if levels == 3 && level == 2 { 3 } else { 0x1ff };
            let page = self.page(user, Physical { gpa: table & FRAME, private })?;
            let entry = page.load64((in_page + index * 8) as usize);
            in_page = 0;
            if entry & PRESENT == 0 {
                return None;
            }
            let large = level > 0 && level < 3 && entry & LARGE != 0 && !(levels == 3 && level == 2);
            if level == 0 || large {
                let mask = (1_u64 << (12 + 9 * level)) - 1;
                let private = state.sev && entry >> C_BIT & 1 != 0;
                return Some(Physical { gpa: entry & FRAME & !mask | linear & mask, private });
            }
            table = entry;
        }
        None
    }

    /// Paging with entries of four bytes, which have no room for a C-bit.
    fn walk_32(&self, user: &dyn UserSpace, state: &State, linear: u64) -> Option<Physical> {
        const PSE: u64 = 1 << 4;
        let private = state.sev;
        let entry = |table: u32, index: u64| {
            let page = self.page(user, Physical { gpa: (table & !0xfff).into(), private })?;
            Some(page.load32((index * 4) as usize)).filter(|entry| u64::from(*entry) & PRESENT != 0)
        };
        let directory = entry(state.cr3 as u32, linear >> 22 & 0x3ff)?;
        if u64::from(directory) & LARGE != 0 && state.cr4 & PSE != 0 {
            return Some(Physical { gpa: u64::from(directory & 0xffc0_0000) | linear & 0x3f_ffff, private });
        }
        let leaf = entry(directory, linear >> 12 & 0x3ff)?;
        Some(Physical { gpa: u64::from(leaf & !0xfff) | linear & 0xfff, private })
    }
}
