"""Makes vectors.txt: python3 vectors.py > vectors.txt, with sev-snp-measure 0.0.13 installed."""

import hashlib
import struct

from sevsnpmeasure.gctx import GCTX

page = bytes((i * 3 + i // 256) & 0xFF for i in range(8192))
vmsa = bytearray((i * 5 + 1) & 0xFF for i in range(4096))
# What the firmware measures as zero, and this tool as it is.
vmsa[0x2F0:0x300] = bytes(16)

gctx = GCTX()
steps = [
    ("normal", lambda: gctx.update_normal_pages(0xFFE00000, page)),
    ("zero", lambda: gctx.update_zero_pages(0x800000, 0x3000)),
    ("unmeasured", lambda: gctx.update_unmeasured_pages(0x900000, 0x2000)),
    ("secrets", lambda: gctx.update_secrets_page(0x80D000)),
    ("cpuid", lambda: gctx.update_cpuid_page(0x80E000)),
    ("vmsa", lambda: gctx.update_vmsa_page(bytes(vmsa))),
]
for name, step in steps:
    step()
    print(name, gctx.ld().hex())

# The tool has the permission bytes reversed (and always zero), so this one is plain hashlib:
# AMD 56860, SNP_LAUNCH_UPDATE, PAGE_INFO: LENGTH, PAGE_TYPE, IMI_PAGE, reserved, VMPL1, VMPL2, VMPL3, GPA.
info = gctx.ld() + bytes(range(1, 49)) + struct.pack("<HBBBBBBQ", 0x70, 1, 1, 0, 0x0F, 0x05, 0x11, 0x12345000)
assert len(info) == 0x70
print("permissions", hashlib.sha384(info).hexdigest())
