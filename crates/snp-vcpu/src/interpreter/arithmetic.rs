//! Integer arithmetic, logic, shifts and bits.
//!
//! Flags that the manual leaves undefined are set as the processors at hand set them where that is known, else left alone.
//!
//! # Source
//! AMD 24594 (APM volume 3), chapter "General-Purpose Instruction Reference".

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::cpu::*;
use super::flags::{self, AF, CF, OF, PF, SF, STATUS, ZF};
use crate::Exception;

/// The bits of a number of bytes.
pub(crate) fn mask(len: usize) -> u64 {
    u64::MAX >> (64 - 8 * len)
}

/// Sign-extends a number of bytes.
pub(crate) fn extend(value: u64, len: usize) -> u64 {
    let shift = 64 - 8 * len as u32;
    ((value << shift) as i64 >> shift) as u64
}

impl Cpu<'_> {
    /// Arithmetic, logic, shifts, bits. `false`: none of these.
    pub(crate) fn arithmetic(&mut self, i: &Instruction) -> Done<bool> {
        match i.mnemonic() {
            Mnemonic::Add | Mnemonic::Adc | Mnemonic::Sub | Mnemonic::Sbb | Mnemonic::Cmp => self.add_or_subtract(i)?,
            Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Test => self.logic(i)?,
            Mnemonic::Inc | Mnemonic::Dec | Mnemonic::Neg | Mnemonic::Not => self.unary(i)?,
            Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr | Mnemonic::Sar => self.shift(i)?,
            Mnemonic::Rol | Mnemonic::Ror | Mnemonic::Rcl | Mnemonic::Rcr => self.rotate(i)?,
            Mnemonic::Shld | Mnemonic::Shrd => self.double_shift(i)?,
            Mnemonic::Mul | Mnemonic::Imul if i.op_count() == 1 => self.multiply_wide(i)?,
            Mnemonic::Imul => self.multiply(i)?,
            Mnemonic::Div | Mnemonic::Idiv => self.divide(i)?,
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => self.bit_test(i)?,
            Mnemonic::Bsf | Mnemonic::Bsr => self.bit_scan(i)?,
            Mnemonic::Tzcnt | Mnemonic::Lzcnt | Mnemonic::Popcnt => self.bit_count(i)?,
            Mnemonic::Crc32 => self.crc32(i)?,
            Mnemonic::Daa | Mnemonic::Das | Mnemonic::Aaa | Mnemonic::Aas | Mnemonic::Aam | Mnemonic::Aad => {
                self.decimal(i)?;
            }
            _ => return self.bit_manipulation(i),
        }
        Ok(true)
    }

    fn add_or_subtract(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let (mask, bits) = (mask(len), 8 * len as u32);
        let b = self.operand(i, 1)? & mask;
        let carry = match i.mnemonic() {
            Mnemonic::Adc | Mnemonic::Sbb => self.state.rflags & CF,
            _ => 0,
        };
        let (a, new) = match i.mnemonic() {
            Mnemonic::Add | Mnemonic::Adc => {
                let a = self.update_operand(i, |a| a.wrapping_add(b).wrapping_add(carry) & mask)?;
                (a, flags::add_flags(a, b, a.wrapping_add(b).wrapping_add(carry) & mask, bits))
            }
            mnemonic => {
                let a = if mnemonic == Mnemonic::Cmp {
                    self.operand(i, 0)?
                } else {
                    self.update_operand(i, |a| a.wrapping_sub(b).wrapping_sub(carry) & mask)?
                };
                (a, flags::sub_flags(a, b, a.wrapping_sub(b).wrapping_sub(carry) & mask, bits))
            }
        };
        let _ = a;
        self.replace_flags(STATUS, new);
        Ok(())
    }

    fn logic(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let b = self.operand(i, 1)? & mask(len);
        let result = match i.mnemonic() {
            Mnemonic::And => self.update_operand(i, |a| a & b)? & b,
            Mnemonic::Or => self.update_operand(i, |a| a | b)? | b,
            Mnemonic::Xor => self.update_operand(i, |a| a ^ b)? ^ b,
            _ => self.operand(i, 0)? & b,
        };
        self.replace_flags(STATUS, flags::result_flags(result, 8 * len as u32));
        Ok(())
    }

    fn unary(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let (mask, bits) = (mask(len), 8 * len as u32);
        match i.mnemonic() {
            Mnemonic::Inc => {
                let a = self.update_operand(i, |a| a.wrapping_add(1) & mask)?;
                let new = flags::add_flags(a, 1, a.wrapping_add(1) & mask, bits);
                self.replace_flags(STATUS & !CF, new & !CF);
            }
            Mnemonic::Dec => {
                let a = self.update_operand(i, |a| a.wrapping_sub(1) & mask)?;
                let new = flags::sub_flags(a, 1, a.wrapping_sub(1) & mask, bits);
                self.replace_flags(STATUS & !CF, new & !CF);
            }
            Mnemonic::Neg => {
                let a = self.update_operand(i, |a| a.wrapping_neg() & mask)?;
                self.replace_flags(STATUS, flags::sub_flags(0, a, a.wrapping_neg() & mask, bits));
            }
            _ => {
                self.update_operand(i, |a| !a & mask)?;
            }
        }
        Ok(())
    }

    /// The count of a shift or rotation, masked as the processor does.
    fn shift_count(&mut self, i: &Instruction, operand: u32, len: usize) -> Done<u32> {
        let count = self.operand(i, operand)? as u32;
        Ok(count & if len == 8 { 0x3f } else { 0x1f })
    }

    fn shift(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let bits = 8 * len as u32;
        let count = self.shift_count(i, 1, len)?;
        let mnemonic = i.mnemonic();
        let shifted = |a: u64| shift(mnemonic, a, count, bits);
        let a = self.update_operand(i, |a| shifted(a).0)?;
        if count != 0 {
            let (result, carry) = shifted(a);
            // Defined for single shifts only; the processors extend the rule.
            let overflow = match mnemonic {
                Mnemonic::Sar => false,
                Mnemonic::Shr => count == 1 && a >> (bits - 1) & 1 != 0,
                _ => (result >> (bits - 1) & 1 != 0) != carry,
            };
            let new = flags::result_flags(result, bits) | if carry { CF } else { 0 } | if overflow { OF } else { 0 };
            self.replace_flags(STATUS & !AF, new);
        }
        Ok(())
    }

    fn rotate(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let bits = 8 * len as u32;
        let count = self.shift_count(i, 1, len)?;
        let carry = self.state.rflags & CF;
        let mnemonic = i.mnemonic();
        let rotated = |a: u64| rotate(mnemonic, a, count, bits, carry);
        let a = self.update_operand(i, |a| rotated(a).0)?;
        if count != 0 {
            let (result, carry) = rotated(a);
            let top = result >> (bits - 1) & 1;
            let overflow = match mnemonic {
                Mnemonic::Rol | Mnemonic::Rcl => top ^ carry,
                _ => top ^ result >> (bits - 2) & 1,
            };
            self.replace_flags(CF | OF, carry | overflow << 11);
        }
        Ok(())
    }

    fn double_shift(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let bits = 8 * len as u32;
        let mut count = self.shift_count(i, 2, len)?;
        let b = self.operand(i, 1)?;
        let left = i.mnemonic() == Mnemonic::Shld;
        if bits == 16 && count > 16 {
            // Undefined; the processors shift the pair on.
            count = count.min(31);
        }
        let shifted = |a: u64| {
            if count == 0 {
                return (a, 0);
            }
            let (a, b, width) = (u128::from(a), u128::from(b), bits);
            if left {
                let pair = (a << width | b) << width | a;
                let all = pair << count;
                ((all >> (2 * width)) as u64 & mask(len), (all >> (3 * width) & 1) as u64)
            } else {
                let pair = (a << width | b) << width | a;
                let all = pair >> (count - 1);
                ((all >> 1) as u64 & mask(len), (all & 1) as u64)
            }
        };
        // 64-bit pairs do not fit three times into 128 bits.
        let wide = |a: u64| match (bits, left, count) {
            (64, _, 0) => (a, 0),
            (64, true, _) => (a << count | b >> (64 - count), a >> (64 - count) & 1),
            (64, false, _) => (a >> count | b << (64 - count), a >> (count - 1) & 1),
            _ => shifted(a),
        };
        let a = self.update_operand(i, |a| wide(a).0)?;
        if count != 0 {
            let (result, carry) = wide(a);
            let overflow = (a ^ result) >> (bits - 1) & 1;
            self.replace_flags(STATUS & !AF, flags::result_flags(result, bits) | carry | overflow << 11);
        }
        Ok(())
    }

    fn multiply_wide(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let b = self.operand(i, 0)?;
        let a = self.state.gpr[0] & mask(len);
        let signed = i.mnemonic() == Mnemonic::Imul;
        let product = if signed {
            (i128::from(extend(a, len) as i64) * i128::from(extend(b, len) as i64)) as u128
        } else {
            u128::from(a) * u128::from(b)
        };
        let bits = 8 * len as u32;
        let (low, high) = (product as u64 & mask(len), (product >> bits) as u64 & mask(len));
        let fits = if signed { high == (extend(low, len) as i64 >> 63) as u64 & mask(len) } else { high == 0 };
        if len == 1 {
            self.state.gpr[0] = self.state.gpr[0] & !0xffff | high << 8 | low;
        } else {
            self.set_sized(0, low, len);
            self.set_sized(2, high, len);
        }
        self.replace_flags(CF | OF, if fits { 0 } else { CF | OF });
        Ok(())
    }

    /// Writes the low bytes of a general register as an instruction of that operand size does.
    pub(crate) fn set_sized(&mut self, register: usize, value: u64, len: usize) {
        let place = &mut self.state.gpr[register];
        *place = match len {
            8 => value,
            4 => value & 0xffff_ffff,
            len => *place & !mask(len) | value & mask(len),
        };
    }

    fn multiply(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let (first, second) = if i.op_count() == 3 { (1, 2) } else { (0, 1) };
        let a = extend(self.operand(i, first)?, len) as i64;
        let b = extend(self.operand(i, second)? & mask(len), len) as i64;
        let product = i128::from(a) * i128::from(b);
        let low = product as u64 & mask(len);
        let fits = i128::from(extend(low, len) as i64) == product;
        self.set_register(i.op0_register(), low);
        self.replace_flags(CF | OF, if fits { 0 } else { CF | OF });
        Ok(())
    }

    fn divide(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let divisor = self.operand(i, 0)?;
        if divisor == 0 {
            return Err(Exception::DIVIDE.into());
        }
        let bits = 8 * len as u32;
        let gpr = &self.state.gpr;
        let (low, high) =
            if len == 1 { (gpr[0] & 0xff, gpr[0] >> 8 & 0xff) } else { (gpr[0] & mask(len), gpr[2] & mask(len)) };
        let dividend = u128::from(high) << bits | u128::from(low);
        let (quotient, remainder) = if i.mnemonic() == Mnemonic::Div {
            let quotient = dividend / u128::from(divisor);
            if quotient > u128::from(mask(len)) {
                return Err(Exception::DIVIDE.into());
            }
            (quotient as u64, (dividend % u128::from(divisor)) as u64)
        } else {
            let shift = 128 - 2 * bits;
            let dividend = (dividend << shift) as i128 >> shift;
            let divisor = i128::from(extend(divisor, len) as i64);
            let quotient = dividend.checked_div(divisor).ok_or(Exception::DIVIDE)?;
            if quotient != i128::from(extend(quotient as u64 & mask(len), len) as i64) {
                return Err(Exception::DIVIDE.into());
            }
            (quotient as u64 & mask(len), (dividend % divisor) as u64 & mask(len))
        };
        if len == 1 {
            self.state.gpr[0] = self.state.gpr[0] & !0xffff | remainder << 8 | quotient;
        } else {
            self.set_sized(0, quotient, len);
            self.set_sized(2, remainder, len);
        }
        Ok(())
    }

    fn bit_test(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let bits = 8 * len as u64;
        let offset = self.operand(i, 1)?;
        let bit = offset & (bits - 1);
        let change = |a: u64| match i.mnemonic() {
            Mnemonic::Bts => a | 1 << bit,
            Mnemonic::Btr => a & !(1 << bit),
            Mnemonic::Btc => a ^ 1 << bit,
            _ => a,
        };
        let old = match (i.op0_kind(), i.mnemonic(), i.op1_kind()) {
            (OpKind::Memory, mnemonic, OpKind::Register) => {
                // A register's bit offset reaches beyond the operand.
                let words = (extend(offset, len) as i64).div_euclid(bits as i64);
                let ea = self.effective_address(i).wrapping_add((words * len as i64) as u64);
                let ea = ea & self.address_mask(i);
                let kind = if mnemonic == Mnemonic::Bt { crate::AccessKind::Read } else { crate::AccessKind::Write };
                let address = self.linear_in(segment_index(i.memory_segment()), ea, len as u64, kind)?;
                self.require_alignment(address, len as u64)?;
                if mnemonic == Mnemonic::Bt {
                    self.read(address, len)?
                } else {
                    self.update(address, len, i.has_lock_prefix(), change)?
                }
            }
            (_, Mnemonic::Bt, _) => self.operand(i, 0)?,
            _ => self.update_operand(i, change)?,
        };
        self.replace_flags(CF, old >> bit & 1);
        Ok(())
    }

    fn bit_scan(&mut self, i: &Instruction) -> Done {
        let value = self.operand(i, 1)?;
        if value == 0 {
            // The destination stays; a 32-bit one keeps its upper half as well.
            self.replace_flags(STATUS, ZF | PF);
            return Ok(());
        }
        let result = if i.mnemonic() == Mnemonic::Bsf { value.trailing_zeros() } else { 63 - value.leading_zeros() };
        self.set_register(i.op0_register(), result.into());
        self.replace_flags(ZF, 0);
        Ok(())
    }

    fn bit_count(&mut self, i: &Instruction) -> Done {
        let len = self.operand_len(i, 0);
        let bits = 8 * len as u32;
        let value = self.operand(i, 1)?;
        let result = match i.mnemonic() {
            Mnemonic::Popcnt => value.count_ones(),
            Mnemonic::Tzcnt => value.trailing_zeros().min(bits),
            _ => value.leading_zeros() - (64 - bits),
        };
        self.set_register(i.op0_register(), result.into());
        if i.mnemonic() == Mnemonic::Popcnt {
            self.replace_flags(STATUS, if value == 0 { ZF } else { 0 });
        } else {
            let carry = if value == 0 { CF } else { 0 };
            self.replace_flags(CF | ZF, carry | if result == 0 { ZF } else { 0 });
        }
        Ok(())
    }

    /// CRC-32C, bit by bit: the polynomial 11EDC6F41h, reflected.
    fn crc32(&mut self, i: &Instruction) -> Done {
        const POLYNOMIAL: u32 = 0x82f6_3b78;
        let len = self.operand_len(i, 1);
        let data = self.operand(i, 1)?;
        let mut crc = self.register(i.op0_register()) as u32;
        for byte in &data.to_le_bytes()[..len] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
            }
        }
        self.set_register(i.op0_register(), crc.into());
        Ok(())
    }

    /// BMI1, BMI2, ADX.
    fn bit_manipulation(&mut self, i: &Instruction) -> Done<bool> {
        let mnemonic = i.mnemonic();
        if !matches!(
            mnemonic,
            Mnemonic::Andn
                | Mnemonic::Bextr
                | Mnemonic::Blsi
                | Mnemonic::Blsmsk
                | Mnemonic::Blsr
                | Mnemonic::Bzhi
                | Mnemonic::Mulx
                | Mnemonic::Pdep
                | Mnemonic::Pext
                | Mnemonic::Rorx
                | Mnemonic::Sarx
                | Mnemonic::Shlx
                | Mnemonic::Shrx
                | Mnemonic::Adcx
                | Mnemonic::Adox
        ) {
            return Ok(false);
        }
        let len = self.operand_len(i, 0);
        let (mask, bits) = (mask(len), 8 * len as u32);
        let source = self.operand(i, 1)?;
        let destination = i.op0_register();
        let (result, new, changed) = match mnemonic {
            Mnemonic::Andn => {
                let result = !source & self.operand(i, 2)? & mask;
                (result, flags::result_flags(result, bits) & !PF, CF | OF | SF | ZF)
            }
            Mnemonic::Bextr => {
                let control = self.operand(i, 2)?;
                let (start, count) = ((control & 0xff) as u32, (control >> 8 & 0xff) as u32);
                let from = source.checked_shr(start).unwrap_or(0);
                let result = if count >= 64 { from } else { from & ((1 << count) - 1) } & mask;
                (result, if result == 0 { ZF } else { 0 }, CF | OF | ZF)
            }
            Mnemonic::Blsi => {
                let result = source & source.wrapping_neg() & mask;
                let carry = if source != 0 { CF } else { 0 };
                (result, flags::result_flags(result, bits) & !PF | carry, CF | OF | SF | ZF)
            }
            Mnemonic::Blsmsk => {
                let result = (source ^ source.wrapping_sub(1)) & mask;
                let carry = if source == 0 { CF } else { 0 };
                (result, flags::result_flags(result, bits) & SF | carry, CF | OF | SF | ZF)
            }
            Mnemonic::Blsr => {
                let result = source & source.wrapping_sub(1) & mask;
                let carry = if source == 0 { CF } else { 0 };
                (result, flags::result_flags(result, bits) & !PF | carry, CF | OF | SF | ZF)
            }
            Mnemonic::Bzhi => {
                let index = (self.operand(i, 2)? & 0xff) as u32;
                let result = if index >= bits { source } else { source & ((1 << index) - 1) };
                let carry = if index >= bits { CF } else { 0 };
                (result, flags::result_flags(result, bits) & !PF | carry, CF | OF | SF | ZF)
            }
            Mnemonic::Mulx => {
                let product = u128::from(self.state.gpr[2] & mask) * u128::from(self.operand(i, 2)?);
                self.set_register(i.op1_register(), product as u64 & mask);
                ((product >> bits) as u64 & mask, 0, 0)
            }
            Mnemonic::Pdep => (deposit(source, self.operand(i, 2)?), 0, 0),
            Mnemonic::Pext => (extract(source, self.operand(i, 2)?), 0, 0),
            Mnemonic::Rorx => {
                let count = u32::from(i.immediate8()) & (bits - 1);
                (rotate(Mnemonic::Ror, source, count, bits, 0).0, 0, 0)
            }
            Mnemonic::Sarx | Mnemonic::Shlx | Mnemonic::Shrx => {
                let count = self.operand(i, 2)? as u32 & (bits - 1);
                let kind = match mnemonic {
                    Mnemonic::Sarx => Mnemonic::Sar,
                    Mnemonic::Shlx => Mnemonic::Shl,
                    _ => Mnemonic::Shr,
                };
                (shift(kind, source, count, bits).0, 0, 0)
            }
            _ => {
                let flag = if mnemonic == Mnemonic::Adcx { CF } else { OF };
                let sum = u128::from(self.register(destination)) + u128::from(source) + u128::from(self.flag(flag));
                let carry = if sum >> bits != 0 { flag } else { 0 };
                (sum as u64 & mask, carry, flag)
            }
        };
        self.set_register(destination, result);
        self.replace_flags(changed, new);
        Ok(true)
    }

    /// Decimal adjustment: not in 64-bit mode.
    fn decimal(&mut self, i: &Instruction) -> Done {
        let al = self.state.gpr[0] as u8;
        let ah = (self.state.gpr[0] >> 8) as u8;
        let (carry, adjust) = (self.flag(CF), self.flag(AF));
        let (mut new_al, mut new_ah) = (al, ah);
        let (mut new_carry, mut new_adjust) = (false, false);
        match i.mnemonic() {
            Mnemonic::Daa | Mnemonic::Das => {
                let add = i.mnemonic() == Mnemonic::Daa;
                let step = |value: u8, by: u8| if add { value.wrapping_add(by) } else { value.wrapping_sub(by) };
                if al & 0xf > 9 || adjust {
                    new_al = step(new_al, 6);
                    new_carry = carry || !add && al < 6 || add && al > 0xf9;
                    new_adjust = true;
                }
                if al > 0x99 || carry {
                    new_al = step(new_al, 0x60);
                    new_carry = true;
                }
            }
            Mnemonic::Aaa | Mnemonic::Aas => {
                if al & 0xf > 9 || adjust {
                    let ax = u16::from_le_bytes([al, ah]);
                    let ax =
                        if i.mnemonic() == Mnemonic::Aaa { ax.wrapping_add(0x106) } else { ax.wrapping_sub(0x106) };
                    [new_al, new_ah] = ax.to_le_bytes();
                    (new_carry, new_adjust) = (true, true);
                }
                new_al &= 0xf;
            }
            Mnemonic::Aam => {
                let base = i.immediate8();
                if base == 0 {
                    return Err(Exception::DIVIDE.into());
                }
                (new_ah, new_al) = (al / base, al % base);
            }
            _ => {
                new_al = al.wrapping_add(ah.wrapping_mul(i.immediate8()));
                new_ah = 0;
            }
        }
        self.state.gpr[0] = self.state.gpr[0] & !0xffff | u64::from(new_ah) << 8 | u64::from(new_al);
        let carry = if new_carry { CF } else { 0 };
        let adjust = if new_adjust { AF } else { 0 };
        self.replace_flags(STATUS & !OF, flags::result_flags(new_al.into(), 8) | carry | adjust);
        Ok(())
    }
}

/// A shift by a masked count: result, and the last bit that went out.
pub(crate) fn shift(mnemonic: Mnemonic, a: u64, count: u32, bits: u32) -> (u64, bool) {
    let mask = u64::MAX >> (64 - bits);
    if count == 0 {
        return (a, false);
    }
    match mnemonic {
        Mnemonic::Shr => (a.checked_shr(count).unwrap_or(0), a.checked_shr(count - 1).unwrap_or(0) & 1 != 0),
        Mnemonic::Sar => {
            let signed = extend(a, bits as usize / 8) as i64;
            ((signed >> count.min(63)) as u64 & mask, signed >> (count - 1).min(63) & 1 != 0)
        }
        _ => {
            let all = u128::from(a) << count;
            (all as u64 & mask, all >> bits & 1 != 0)
        }
    }
}

/// A rotation by a masked count: result, and CF.
fn rotate(mnemonic: Mnemonic, a: u64, count: u32, bits: u32, carry: u64) -> (u64, u64) {
    let mask = u64::MAX >> (64 - bits);
    let through = matches!(mnemonic, Mnemonic::Rcl | Mnemonic::Rcr);
    let left = matches!(mnemonic, Mnemonic::Rol | Mnemonic::Rcl);
    if through {
        let (value, width) = (u128::from(carry) << bits | u128::from(a), bits + 1);
        let count = count % width;
        let full = (1_u128 << width) - 1;
        let turned = match (count, left) {
            (0, _) => value,
            (_, true) => (value << count | value >> (width - count)) & full,
            (_, false) => (value >> count | value << (width - count)) & full,
        };
        return (turned as u64 & mask, (turned >> bits) as u64 & 1);
    }
    let turn = count % bits;
    let turned = match (turn, left) {
        (0, _) => a,
        (_, true) => (a << turn | a >> (bits - turn)) & mask,
        (_, false) => (a >> turn | a << (bits - turn)) & mask,
    };
    (turned, if left { turned & 1 } else { turned >> (bits - 1) & 1 })
}

/// PDEP.
fn deposit(source: u64, mut places: u64) -> u64 {
    let (mut result, mut bit) = (0, 0);
    while places != 0 {
        let lowest = places & places.wrapping_neg();
        if source >> bit & 1 != 0 {
            result |= lowest;
        }
        places ^= lowest;
        bit += 1;
    }
    result
}

/// PEXT.
fn extract(source: u64, mut places: u64) -> u64 {
    let (mut result, mut bit) = (0, 0);
    while places != 0 {
        let lowest = places & places.wrapping_neg();
        if source & lowest != 0 {
            result |= 1 << bit;
        }
        places ^= lowest;
        bit += 1;
    }
    result
}
