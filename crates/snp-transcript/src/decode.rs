//! Which ioctls a transcript holds, and what of user memory the kernel reads for each.

use serde_json::{Map, Value};
use snp_abi::kvm::proposed::{KVM_SEV_SNP_SET_VCPU_STATE, kvm_sev_snp_vcpu_state};
use snp_abi::kvm::*;
use snp_softkvm::UserSpace;
use zerocopy::{FromBytes, IntoBytes};

use crate::hex;
use crate::line::Memory;

/// Requests with one structure behind their argument, all of it input: what shapes a launch and the VMSAs that KVM makes.
const STRUCTURES: &[u32] = &[
    KVM_ENABLE_CAP,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SET_USER_MEMORY_REGION2,
    KVM_SET_MEMORY_ATTRIBUTES,
    KVM_CREATE_GUEST_MEMFD,
    KVM_SET_REGS,
    KVM_SET_SREGS,
    KVM_SET_SREGS2,
    KVM_SET_FPU,
    KVM_SET_XSAVE,
    KVM_SET_XCRS,
    KVM_SET_DEBUGREGS,
    KVM_SET_GUEST_DEBUG,
];
/// Lists: bytes of an entry, after a header of eight bytes that begins with their number.
const LISTS: &[(u32, usize)] = &[(KVM_SET_MSRS, 16), (KVM_SET_CPUID2, 40)];
/// More entries than any kernel takes.
const LONGEST_LIST: usize = 4096;
const LIST_HEADER: usize = 8;

/// Whether transcripts hold this request.
pub(crate) fn is_recorded(request: u32) -> bool {
    matches!(request, KVM_CREATE_VM | KVM_CREATE_VCPU | KVM_CREATE_IRQCHIP | KVM_MEMORY_ENCRYPT_OP)
        || STRUCTURES.contains(&request)
        || LISTS.iter().any(|(list, _)| *list == request)
}

/// Reads user memory for the record; what cannot be read is left out, as the kernel could not read it either.
pub(crate) fn take(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut data = vec![0; len];
    user.read(at, &mut data).ok()?;
    memory.push(Memory { at: hex::number(at), data: hex::bytes(&data) });
    Some(data)
}

fn take_struct<T: FromBytes>(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64) -> Option<T> {
    T::read_from_bytes(&take(memory, user, at, size_of::<T>())?).ok()
}

/// Arguments by name.
pub(crate) fn named(arguments: &[(&str, u64)]) -> Map<String, Value> {
    arguments.iter().map(|&(name, value)| (name.to_owned(), hex::number(value).into())).collect()
}

/// The arguments of a request that is no SEV command, and the memory behind it.
pub(crate) fn plain(memory: &mut Vec<Memory>, user: &dyn UserSpace, request: u32, argument: u64) -> Map<String, Value> {
    match request {
        KVM_CREATE_VM => return named(&[("type", argument)]),
        KVM_CREATE_VCPU => return named(&[("id", argument)]),
        _ => {}
    }
    if let Some((_, entry)) = LISTS.iter().find(|(list, _)| *list == request) {
        list(memory, user, argument, *entry);
        return Map::new();
    }
    if !STRUCTURES.contains(&request) {
        return Map::new();
    }
    // The size is part of the request's number.
    let len = (request >> 16 & 0x3fff) as usize;
    let Some(data) = take(memory, user, argument, len) else { return Map::new() };
    structure(request, &data).unwrap_or_default()
}

fn list(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64, entry: usize) {
    let mut count = [0; 4];
    if user.read(at, &mut count).is_ok() {
        let count = (u32::from_le_bytes(count) as usize).min(LONGEST_LIST);
        // A list that cannot be read to its end still has a header.
        if take(memory, user, at, LIST_HEADER + count * entry).is_none() {
            take(memory, user, at, LIST_HEADER);
        }
    }
}

fn structure(request: u32, data: &[u8]) -> Option<Map<String, Value>> {
    Some(match request {
        KVM_ENABLE_CAP => {
            let cap = kvm_enable_cap::read_from_bytes(data).ok()?;
            named(&[("cap", cap.cap.into()), ("args[0]", cap.args[0])])
        }
        KVM_SET_USER_MEMORY_REGION => {
            let region = kvm_userspace_memory_region::read_from_bytes(data).ok()?;
            named(&[
                ("slot", region.slot.into()),
                ("flags", region.flags.into()),
                ("guest_phys_addr", region.guest_phys_addr),
                ("memory_size", region.memory_size),
            ])
        }
        KVM_SET_USER_MEMORY_REGION2 => {
            let region = kvm_userspace_memory_region2::read_from_bytes(data).ok()?;
            named(&[
                ("slot", region.slot.into()),
                ("flags", region.flags.into()),
                ("guest_phys_addr", region.guest_phys_addr),
                ("memory_size", region.memory_size),
            ])
        }
        KVM_SET_MEMORY_ATTRIBUTES => {
            let range = kvm_memory_attributes::read_from_bytes(data).ok()?;
            named(&[("address", range.address), ("size", range.size), ("attributes", range.attributes)])
        }
        KVM_CREATE_GUEST_MEMFD => {
            let memfd = kvm_create_guest_memfd::read_from_bytes(data).ok()?;
            named(&[("size", memfd.size), ("flags", memfd.flags)])
        }
        _ => return None,
    })
}

/// An SEV command as it was given.
pub(crate) struct SevCommand {
    pub(crate) name: String,
    pub(crate) command: kvm_sev_cmd,
    pub(crate) args: Map<String, Value>,
    pub(crate) update: Option<kvm_sev_snp_launch_update>,
}

/// The command behind KVM_MEMORY_ENCRYPT_OP; `None` if it is none of a launch with SEV-SNP.
pub(crate) fn sev(memory: &mut Vec<Memory>, user: &dyn UserSpace, argument: u64) -> Option<SevCommand> {
    let command: kvm_sev_cmd = take_struct(memory, user, argument)?;
    let mut update = None;
    let (name, args) = match command.id {
        KVM_SEV_INIT2 => ("KVM_SEV_INIT2", init2(memory, user, command.data)),
        KVM_SEV_SNP_LAUNCH_START => ("KVM_SEV_SNP_LAUNCH_START", start(memory, user, command.data)),
        KVM_SEV_SNP_LAUNCH_UPDATE => {
            update = take_struct(memory, user, command.data);
            ("KVM_SEV_SNP_LAUNCH_UPDATE", update.as_ref().map(update_args))
        }
        KVM_SEV_SNP_LAUNCH_FINISH => ("KVM_SEV_SNP_LAUNCH_FINISH", finish(memory, user, command.data)),
        KVM_SEV_SNP_ENABLE_REQ_CERTS => ("KVM_SEV_SNP_ENABLE_REQ_CERTS", None),
        KVM_SEV_SNP_SET_VCPU_STATE => ("KVM_SEV_SNP_SET_VCPU_STATE", vcpu_state(memory, user, command.data)),
        _ => return None,
    };
    Some(SevCommand { name: name.to_owned(), command, args: args.unwrap_or_default(), update })
}

fn init2(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64) -> Option<Map<String, Value>> {
    let init: kvm_sev_init = take_struct(memory, user, at)?;
    Some(named(&[
        ("vmsa_features", init.vmsa_features),
        ("flags", init.flags.into()),
        ("ghcb_version", init.ghcb_version.into()),
    ]))
}

fn start(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64) -> Option<Map<String, Value>> {
    let start: kvm_sev_snp_launch_start = take_struct(memory, user, at)?;
    Some(named(&[("policy", start.policy)]))
}

fn update_args(update: &kvm_sev_snp_launch_update) -> Map<String, Value> {
    named(&[
        ("gfn_start", update.gfn_start),
        ("uaddr", update.uaddr),
        ("len", update.len),
        ("type", update.r#type.into()),
    ])
}

fn finish(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64) -> Option<Map<String, Value>> {
    let finish: kvm_sev_snp_launch_finish = take_struct(memory, user, at)?;
    if finish.id_block_en != 0 {
        take(memory, user, finish.id_block_uaddr, KVM_SEV_SNP_ID_BLOCK_SIZE);
        take(memory, user, finish.id_auth_uaddr, KVM_SEV_SNP_ID_AUTH_SIZE);
    }
    Some(named(&[
        ("id_block_en", finish.id_block_en.into()),
        ("auth_key_en", finish.auth_key_en.into()),
        ("vcek_disabled", finish.vcek_disabled.into()),
    ]))
}

fn vcpu_state(memory: &mut Vec<Memory>, user: &dyn UserSpace, at: u64) -> Option<Map<String, Value>> {
    let state: kvm_sev_snp_vcpu_state = take_struct(memory, user, at)?;
    Some(named(&[("valid_fields", state.valid_fields), ("vmsa_gpa", state.vmsa_gpa)]))
}

/// Reads a structure again, after the call.
pub(crate) fn reread<T: FromBytes + IntoBytes>(user: &dyn UserSpace, at: u64) -> Option<T> {
    let mut value = T::new_zeroed();
    user.read(at, value.as_mut_bytes()).ok()?;
    Some(value)
}
