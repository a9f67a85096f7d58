//! The guest's side of attestation, in software.
//!
//! [`Channel`] makes and opens the messages by which a guest speaks to the firmware, with a VMPCK from its secrets page.
//! [`SevGuest`] does with it what Linux's sev-guest driver does, [`ioctl`] is that driver's /dev/sev-guest, and [`Reports`] is the
//! configfs-tsm tree over it. Who carries the messages is behind [`Hypervisor`]: here is nothing of a hypervisor and nothing of
//! the firmware, so that the two sides agree by the specification and not by sharing code.
//!
//! [`Call`] and [`Answer`] are the same requests as data, for a program whose guest lives in another process.
//!
//! # Source
//! AMD 56860, SNP_GUEST_REQUEST; Linux 7.3, drivers/virt/coco/sev-guest/sev-guest.c, arch/x86/coco/sev/core.c,
//! drivers/virt/coco/guest/report.c, read for behaviour.

mod channel;
mod driver;
mod ioctl;
mod remote;
mod tsm;

pub use channel::{BadResponse, Channel, MessagePage};
pub use driver::{ExtendedReport, Failure, Hypervisor, SevGuest};
pub use ioctl::{Driver, UserMemory, ioctl};
pub use remote::{Answer, Call, Served};
pub use tsm::{Attribute, Place, Reports, TSM_INBLOB_MAX, TSM_ROOT};
