//! A vCPU that stands still, for debuggers: its whole state, and the memory that it sees.

use snp_abi::Errno;
use snp_vcpu::State;

use super::{Bounds, Flow, Session};
use crate::{UserSpace, Vcpu};

impl Vcpu {
    /// Looks at the vCPU's state, and may change it. Waits while another thread runs the vCPU. `None`: it has none yet, because
    /// its VMSA is not there.
    ///
    /// # Errors
    /// As [`Vcpu::run`], as far as it concerns the state.
    pub fn with_state<T>(&self, user: &dyn UserSpace, look: impl FnOnce(&mut State) -> T) -> Result<Option<T>, Errno> {
        let mut session = Session::new(self, user, Bounds { wait: false, ..Bounds::default() })?;
        if !session.reach_state() {
            return Ok(None);
        }
        let result = look(&mut session.running.state);
        session.leave_guest();
        session.store();
        Ok(Some(result))
    }
}

impl Session<'_> {
    /// Loads the state without running anything; whether there is one.
    fn reach_state(&mut self) -> bool {
        self.start();
        self.load();
        match self.take_events() {
            Some(Flow::Fail(..) | Flow::Exit(_) | Flow::Stop(_)) => false,
            Some(Flow::Resume) | None => !self.protected || self.has_vmsa(),
        }
    }
}
