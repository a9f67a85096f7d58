//! Launches as they happened.
//!
//! A transcript has one JSON object per line and ioctl ([`Line`], docs/json.md). [`Pending`] makes lines from the ioctls of a
//! foreign program, wherever they are answered; [`Replay`] performs them again on the software platform and says where the
//! answers depart.

mod decode;
mod hex;
mod line;
mod recorder;
mod replay;

pub use line::{Call, Line, Malformed, Memory, On, Page, Status};
pub use recorder::{Pending, Seen};
pub use replay::{Departure, Replay};
