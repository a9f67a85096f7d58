//! Devices in KVM, by port and by address: the local APIC, the I/O APIC, ioeventfds, and what is left of the PICs.

use super::Session;
use crate::Eventfd;
use crate::apic::IoApic;

/// Command and data ports of the two PICs, and their edge/level registers.
const PIC_PORTS: [u16; 6] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
/// The PIT's counters and command, and the speaker port that shows a counter's output.
const PIT_PORTS: [u16; 5] = [0x40, 0x41, 0x42, 0x43, 0x61];

impl Session<'_> {
    /// Reads a device in KVM; whether there is one.
    pub(super) fn device_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        let tsc = self.running.state.tsc;
        let read = self.apic(|apic| apic.register_at(gpa).map(|offset| apic.read_page(offset, data, tsc)));
        if read.flatten().is_some() {
            return true;
        }
        let Some(offset) = IoApic::register_at(gpa) else { return false };
        self.vcpu.vm.lock().devices.io_apic().map(|io_apic| io_apic.read(offset, data)).is_some()
    }

    /// Writes a device in KVM; whether there is one.
    pub(super) fn device_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        let tsc = self.running.state.tsc;
        let written = self.apic(|apic| apic.register_at(gpa).map(|offset| apic.write_page(offset, data, tsc)));
        if let Some(effect) = written.flatten() {
            self.carry_out(effect);
            return true;
        }
        if let Some(offset) = IoApic::register_at(gpa) {
            let written = self.vcpu.vm.lock().devices.io_apic().map(|io_apic| io_apic.write(offset, data));
            if let Some(message) = written {
                message.into_iter().for_each(|message| drop(self.vcpu.vm.send(&message)));
                return true;
            }
        }
        self.signal(false, gpa, data)
    }

    /// IN from a device in KVM; whether there is one.
    pub(super) fn device_port_in(&mut self, port: u16, data: &mut [u8]) -> bool {
        if !self.is_legacy_port(port) {
            return false;
        }
        let value = self.vcpu.vm.lock().devices.legacy_ports.get(&port).copied().unwrap_or(0);
        if !matches!(port, 0x21 | 0xa1 | 0x4d0 | 0x4d1) {
            self.vcpu.vm.host.unmodelled(format!("IN from port {port:#x} of KVM's PIC or PIT"));
        }
        data.fill(0);
        data[0] = value;
        true
    }

    /// OUT to a device in KVM; whether there is one. No interrupt ever comes from a PIC or PIT: what a guest sets up there is
    /// kept, to be read again.
    pub(super) fn device_port_out(&mut self, port: u16, data: &[u8]) -> bool {
        if self.is_legacy_port(port) {
            if PIT_PORTS.contains(&port) && port != 0x61 {
                self.vcpu.vm.host.unmodelled("KVM's PIT");
            }
            self.vcpu.vm.lock().devices.legacy_ports.insert(port, data[0]);
            return true;
        }
        self.signal(true, port.into(), data)
    }

    fn is_legacy_port(&self, port: u16) -> bool {
        if !PIC_PORTS.contains(&port) && !PIT_PORTS.contains(&port) {
            return false;
        }
        let state = self.vcpu.vm.lock();
        if PIC_PORTS.contains(&port) { state.devices.has_full_irqchip() } else { state.devices.has_pit() }
    }

    /// Signals the eventfd that waits for that write.
    fn signal(&self, ports: bool, address: u64, data: &[u8]) -> bool {
        let eventfd = self.vcpu.vm.lock().devices.io_events.find(ports, address, data);
        eventfd.inspect(Eventfd::signal).is_some()
    }
}
