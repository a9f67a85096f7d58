//! What is compared.

use snp_abi::kvm::{self, *};
use snp_abi::sev_guest::*;
use snp_abi::{AbiLayout, FwStatus, PageType, SnpPlatformStatus};

/// A structure.
#[derive(Clone, Debug)]
pub(super) struct Structure {
    pub(super) c_name: &'static str,
    pub(super) size: usize,
    pub(super) fields: Vec<Field>,
}

/// A field of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) offset: usize,
    pub(super) size: usize,
}

/// A bit field of one bit: C cannot name its offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bit {
    pub(super) c_struct: &'static str,
    pub(super) name: &'static str,
    pub(super) byte: usize,
    pub(super) bit: u32,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) structures: Vec<Structure>,
    pub(super) bits: Vec<Bit>,
    pub(super) numbers: Vec<(String, u64)>,
}

/// SnpPlatformStatus has integers where C has bit fields: their bits are in [`STATUS_BITS`], their bytes lie between the
/// neighbours that are compared.
const STATUS: &str = "sev_user_data_snp_status";
const BIT_FIELDS: [&str; 2] = ["is_rmp_initialized", "flags"];

/// The bits as the documentation of [`SnpPlatformStatus`] numbers them.
const STATUS_BITS: [(&str, usize, u32); 8] = [
    ("is_rmp_initialized", 3, 0),
    ("mask_chip_id", 8, 0),
    ("mask_chip_key", 8, 1),
    ("vlek_en", 8, 2),
    ("feature_info", 8, 3),
    ("rapl_dis", 8, 4),
    ("ciphertext_hiding_cap", 8, 5),
    ("ciphertext_hiding_en", 8, 6),
];

impl Structure {
    fn of<T: AbiLayout>(c_name: &'static str, leave_out: &[&str]) -> Self {
        let fields = T::FIELDS.iter().filter(|field| !leave_out.contains(&field.name));
        let fields = fields.map(|field| Field {
            // `type` is a keyword here and a name there.
            name: field.name.strip_prefix("r#").unwrap_or(field.name),
            offset: field.offset,
            size: field.size,
        });
        Self { c_name, size: T::SIZE, fields: fields.collect() }
    }
}

macro_rules! structures {
    ($($name:ident),+ $(,)?) => { vec![$(Structure::of::<kvm::$name>(stringify!($name), &[])),+] };
}

macro_rules! numbers {
    ($($name:ident),+ $(,)?) => { vec![$((stringify!($name).to_owned(), $name as u64)),+] };
}

impl Tables {
    /// All that `snp-abi` shares with the Linux headers.
    pub(super) fn snp_abi() -> Self {
        let mut structures = structures![
            kvm_clock_data,
            kvm_coalesced_mmio_zone,
            kvm_cpuid_entry2,
            kvm_create_device,
            kvm_create_guest_memfd,
            kvm_debugregs,
            kvm_device_attr,
            kvm_dtable,
            kvm_enable_cap,
            kvm_fpu,
            kvm_ioeventfd,
            kvm_irq_level,
            kvm_irq_routing_entry,
            kvm_irqchip,
            kvm_irqfd,
            kvm_lapic_state,
            kvm_memory_attributes,
            kvm_mp_state,
            kvm_msi,
            kvm_msr_entry,
            kvm_pit_config,
            kvm_pit_state2,
            kvm_pre_fault_memory,
            kvm_regs,
            kvm_run,
            kvm_segment,
            kvm_enc_region,
            kvm_sev_cmd,
            kvm_sev_dbg,
            kvm_sev_launch_secret,
            kvm_sev_guest_status,
            kvm_sev_init,
            kvm_sev_launch_measure,
            kvm_sev_launch_start,
            kvm_sev_launch_update_data,
            kvm_sev_snp_launch_finish,
            kvm_sev_snp_launch_start,
            kvm_sev_snp_launch_update,
            kvm_sregs,
            kvm_sregs2,
            kvm_tpr_access_ctl,
            kvm_userspace_memory_region,
            kvm_userspace_memory_region2,
            kvm_xcr,
            kvm_xcrs,
            kvm_xsave,
        ];
        structures.push(Structure::of::<SnpPlatformStatus>(STATUS, &BIT_FIELDS));
        structures.push(Structure::of::<kvm_guest_debug>("kvm_guest_debug", &["debugreg"]));
        structures.push(Structure::of::<kvm_msr_filter_range>("kvm_msr_filter_range", &["pad"]));
        structures.push(Structure::of::<kvm_msr_filter>("kvm_msr_filter", &["pad"]));
        structures.push(Structure::of::<kvm_vcpu_events>("kvm_vcpu_events", &nested(kvm_vcpu_events::FIELDS)));
        structures.extend(sev_guest());
        let bits = STATUS_BITS.iter().map(|&(name, byte, bit)| Bit { c_struct: STATUS, name, byte, bit }).collect();
        let mut numbers = kvm_numbers();
        numbers.extend(sev_guest_numbers());
        let named = KVM_IOCTLS.iter().chain(KVM_CAPS).map(|&(number, name)| (name.to_owned(), u64::from(number)));
        numbers.extend(named);
        numbers.extend(page_types());
        numbers.extend(status_codes());
        Self { structures, bits, numbers }
    }
}

/// The uAPI of /dev/sev-guest. C's padding has no name; `fw_error` and `vmm_error` share `exitinfo2`.
fn sev_guest() -> [Structure; 5] {
    [
        Structure::of::<snp_guest_request_ioctl>("snp_guest_request_ioctl", &["padding_0x1"]),
        Structure::of::<snp_report_req>("snp_report_req", &[]),
        Structure::of::<snp_derived_key_req>("snp_derived_key_req", &[]),
        Structure::of::<snp_derived_key_resp>("snp_derived_key_resp", &[]),
        Structure::of::<snp_ext_report_req>("snp_ext_report_req", &["padding_0x6c"]),
    ]
}

fn sev_guest_numbers() -> Vec<(String, u64)> {
    let response = ("sizeof(struct snp_report_resp)".to_owned(), SNP_REPORT_RESP_LEN as u64);
    let mut numbers = numbers![
        SNP_GET_REPORT,
        SNP_GET_DERIVED_KEY,
        SNP_GET_EXT_REPORT,
        SNP_GUEST_VMM_ERR_INVALID_LEN,
        SNP_GUEST_VMM_ERR_BUSY,
    ];
    numbers.push(response);
    numbers
}

/// Fields that are spelt out here and nested in C; their neighbours and the size are compared.
fn nested(fields: &[snp_abi::FieldLayout]) -> Vec<&'static str> {
    const KEPT: [&str; 5] = ["sipi_vector", "flags", "reserved", "exception_has_payload", "exception_payload"];
    fields.iter().map(|field| field.name).filter(|name| !KEPT.contains(name)).collect()
}

fn page_types() -> impl Iterator<Item = (String, u64)> {
    // VMSA is a proposal's.
    let types = [
        ("NORMAL", PageType::NORMAL),
        ("ZERO", PageType::ZERO),
        ("UNMEASURED", PageType::UNMEASURED),
        ("SECRETS", PageType::SECRETS),
        ("CPUID", PageType::CPUID),
    ];
    types.into_iter().map(|(name, page_type)| (format!("KVM_SEV_SNP_PAGE_TYPE_{name}"), u64::from(page_type.0)))
}

fn status_codes() -> impl Iterator<Item = (String, u64)> {
    let codes = FwStatus::ALL.iter().map(|status| {
        let name = status.name().expect("ALL holds what is known");
        (format!("SEV_RET_{}", linux_name(name)), u64::from(status.0))
    });
    // -1 in C.
    codes.chain([("SEV_RET_NO_FW_CALL".to_owned(), u64::MAX)])
}

/// Linux spells some codes otherwise than the specification.
fn linux_name(name: &str) -> String {
    match name {
        "HWERROR_PLATFORM" => "HWSEV_RET_PLATFORM".to_owned(),
        "HWERROR_UNSAFE" => "HWSEV_RET_UNSAFE".to_owned(),
        "ERR_IN_DEV_CONN" | "INVALID_DEV_CTX" | "INVALID_TDI_CTX" | "INVALID_TDI" | "RECLAIM_REQUIRED"
        | "INVALID_DEV_STATE" | "INVALID_TDI_STATE" | "DEV_CERT_CHANGED" | "RESYNC_REQ" | "RESPONSE_TOO_LARGE" => {
            format!("SEV_STATUS_{name}")
        }
        other => other.to_owned(),
    }
}

fn kvm_numbers() -> Vec<(String, u64)> {
    numbers![
        KVM_API_VERSION,
        KVM_X86_DEFAULT_VM,
        KVM_X86_SW_PROTECTED_VM,
        KVM_X86_SEV_VM,
        KVM_X86_SEV_ES_VM,
        KVM_X86_SNP_VM,
        KVM_X86_TDX_VM,
        KVM_SEV_INIT,
        KVM_SEV_ES_INIT,
        KVM_SEV_INIT2,
        KVM_SEV_LAUNCH_START,
        KVM_SEV_LAUNCH_UPDATE_DATA,
        KVM_SEV_LAUNCH_UPDATE_VMSA,
        KVM_SEV_LAUNCH_MEASURE,
        KVM_SEV_LAUNCH_SECRET,
        KVM_SEV_LAUNCH_FINISH,
        KVM_SEV_GUEST_STATUS,
        KVM_SEV_DBG_DECRYPT,
        KVM_SEV_DBG_ENCRYPT,
        KVM_SEV_SNP_LAUNCH_START,
        KVM_SEV_SNP_LAUNCH_UPDATE,
        KVM_SEV_SNP_LAUNCH_FINISH,
        KVM_SEV_SNP_ENABLE_REQ_CERTS,
        KVM_MEM_LOG_DIRTY_PAGES,
        KVM_MEM_READONLY,
        KVM_MEM_GUEST_MEMFD,
        KVM_MEMORY_ATTRIBUTE_PRIVATE,
        KVM_HC_MAP_GPA_RANGE,
        KVM_EXIT_UNKNOWN,
        KVM_EXIT_IO,
        KVM_EXIT_HYPERCALL,
        KVM_EXIT_DEBUG,
        KVM_EXIT_HLT,
        KVM_EXIT_MMIO,
        KVM_EXIT_IRQ_WINDOW_OPEN,
        KVM_EXIT_SHUTDOWN,
        KVM_EXIT_FAIL_ENTRY,
        KVM_EXIT_INTR,
        KVM_EXIT_SET_TPR,
        KVM_EXIT_INTERNAL_ERROR,
        KVM_EXIT_SYSTEM_EVENT,
        KVM_EXIT_IOAPIC_EOI,
        KVM_EXIT_X86_RDMSR,
        KVM_EXIT_X86_WRMSR,
        KVM_EXIT_AP_RESET_HOLD,
        KVM_EXIT_SNP_REQ_CERTS,
        KVM_EXIT_MEMORY_FAULT,
        KVM_EXIT_IO_IN,
        KVM_EXIT_IO_OUT,
        KVM_SYSTEM_EVENT_SHUTDOWN,
        KVM_SYSTEM_EVENT_RESET,
        KVM_SYSTEM_EVENT_SEV_TERM,
        KVM_INTERNAL_ERROR_EMULATION,
        KVM_INTERNAL_ERROR_SIMUL_EX,
        KVM_INTERNAL_ERROR_DELIVERY_EV,
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
        KVM_MEMORY_EXIT_FLAG_PRIVATE,
        KVM_EXIT_HYPERCALL_LONG_MODE,
        KVM_SYNC_X86_REGS,
        KVM_SYNC_X86_SREGS,
        KVM_SYNC_X86_EVENTS,
        KVM_X86_GRP_SEV,
        KVM_X86_XCOMP_GUEST_SUPP,
        KVM_X86_SEV_VMSA_FEATURES,
        KVM_X86_SNP_POLICY_BITS,
        KVM_X86_SEV_SNP_REQ_CERTS,
        KVM_MP_STATE_RUNNABLE,
        KVM_MP_STATE_UNINITIALIZED,
        KVM_MP_STATE_INIT_RECEIVED,
        KVM_MP_STATE_HALTED,
        KVM_MP_STATE_SIPI_RECEIVED,
        KVM_MP_STATE_AP_RESET_HOLD,
        KVM_SEV_SNP_ID_BLOCK_SIZE,
        KVM_SEV_SNP_ID_AUTH_SIZE,
    ]
}
