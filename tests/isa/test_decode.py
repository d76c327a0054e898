"""isa/aarch64.decode against capstone, GNU objdump, and the C decoder that is generated from it.

EMU_DECODE_SEED in the environment repeats a run: the seed is in the message of what fails.
"""

from __future__ import annotations

import os
import random
import re
import runpy
import shutil
import struct
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import capstone
import pytest

from isa.decode import Encoding, TableError, load, parse

ROOT = Path(__file__).parent.parent.parent
NATIVE = ROOT / "accel" / "native"
SEED = int(os.environ.get("EMU_DECODE_SEED") or random.randrange(1 << 32))
TABLE = load("aarch64")

# What each encoding may be called; {a,b} is a choice.  All of them must turn up, but those with a `?`, which
# are aliases of few words.
MNEMONICS = """
ADR          adr{,p}
ADDSUB_imm   {add,sub}{,s} cmn cmp mov?
LOGIC_imm    and{,s} orr eor tst mov?
MOVW         movn? movk movz? mov
BITFIELD     sbfx sbfiz? asr? sxtb? sxth? sxtw? bfi bfxil bfc? ubfx ubfiz lsr? lsl? uxtb? uxth?
EXTR         extr ror?
B_cond       b.{eq,ne,hs,lo,mi,pl,vs,vc,hi,ls,ge,lt,gt,le,al,nv}
SVC          svc
HVC          hvc
SMC          smc
BRK          brk
HLT          hlt
HINT         hint {nop,yield,wfe,wfi,sev,sevl,dgh,esb,psb,tsb,csdb,bti}? xpaclri? {pac,aut}i{a,b}{1716,sp,z}?
CLREX        clrex
DSB          dsb ssbb? pssbb? dfb?
DMB          dmb
ISB          isb
SB           sb
MSR_imm      msr
CFINV        cfinv
XAFLAG       xaflag
AXFLAG       axflag
SYS          sys{,l} {ic,dc,at,tlbi}?
MSR          msr
MRS          mrs
BR           br blr ret
ERET         eret
BRA          b{,l}ra{a,b}{,z} reta{a,b}?
ERETA        ereta{a,b}
B            b bl
CBZ          cb{,n}z
TBZ          tb{,n}z
LDn_multi        {ld,st}{1,2,3,4}
LDn_multi_post   {ld,st}{1,2,3,4}
LDn_single       {ld,st}{1,2,3,4} ld{1,2,3,4}r
LDn_single_post  {ld,st}{1,2,3,4} ld{1,2,3,4}r
EXCL         {ld,ld,ld}{,a}xr{,b,h} st{,l}xr{,b,h}
EXCLP        ld{,a}xp st{,l}xp
LDAR         ld{a,la}r{,b,h} st{l,ll}r{,b,h}
CAS          cas{,a,l,al}{,b,h}
CASP         casp{,a,l,al}
LDAPUR       stlur{,b,h} ldapur{,b,h,sb,sh,sw}
LDR_lit      ldr ldrsw prfm
LDR_lit_v    ldr
LDP          ld{,n}p st{,n}p ldpsw
LDP_v        ld{,n}p st{,n}p
LDST_imm9    {ldr,ldtr,ldur}{,b,h,sb,sh,sw} {str,sttr,stur}{,b,h} prfum
LDST_v_imm9  {ld,st}{r,ur}
LSE          {ld,st}{add,clr,eor,set,smax,smin,umax,umin}{,l}{,b,h} swp{,a,l,al}{,b,h}
             ld{add,clr,eor,set,smax,smin,umax,umin}{a,al}{,b,h}
LDAPR        ldapr{,b,h}
LDST_reg     ldr{,b,h,sb,sh,sw} str{,b,h} prfm
LDST_v_reg   ldr str
LDRA         ldra{a,b}
LDST_uimm    ldr{,b,h,sb,sh,sw} str{,b,h} prfm
LDST_v_uimm  ldr str
UDIV_SDIV    {u,s}div
SHIFTV       lsl lsr asr ror
PACGA        pacga
CRC32        crc32{,c}{b,h,w,x}
RBIT         rbit
REV16        rev16
REV32        rev32
REV          rev
CLZ_CLS      clz cls
PAC          {pac,aut}{i,d}{,z}{a,b}
XPAC         xpac{i,d}
LOGIC_shift  and{,s} bic{,s} orr orn eor eon tst mov? mvn
ADDSUB_shift {add,sub}{,s} cmn cmp neg{,s}
ADDSUB_ext   {add,sub}{,s} cmn cmp
ADC          {adc,sbc,ngc}{,s}
RMIF         rmif
SETF         setf{8,16}
CCMP         ccm{n,p}
CSEL         csel csinc csinv csneg cset{,m}? cinc? cinv? cneg?
MADD         madd msub mul mneg
MADDL        {s,u}{madd,msub,mneg,mul}l
MULH         {s,u}mulh
AES          aes{e,d}
AESMC        aes{,i}mc
SHA1         sha1{c,p,m}
SHA1SU0      sha1su0
SHA256H      sha256h{,2}
SHA256SU1    sha256su1
SHA1H        sha1h
SHA1SU1      sha1su1
SHA256SU0    sha256su0
S_DUP_e      mov
S_FMULX_h    fmulx
S_FRECPS_h   frecps
S_FRSQRTS_h  frsqrts
S_FABD_h     fabd
S_FCM_h      fcm{eq,ge,gt}
S_FAC_h      fac{ge,gt}
S_FCVT_h     fcvt{n,p,m,z}{s,u}
S_FCVTA_h    fcvta{s,u}
S_CVTF_h     {s,u}cvtf
S_FCMZ_h     fcm{gt,ge,eq,le,lt}
S_FRECPE_h   frecpe
S_FRECPX_h   frecpx
S_FRSQRTE_h  frsqrte
S_SQRDMLAH   sqrdml{a,s}h
S_SUQADD     suqadd usqadd
S_SQABS      sq{abs,neg}
S_CMZ        cm{gt,ge,eq,le,lt}
S_ABS        abs neg
S_SQXTUN     sqxtun
S_QXTN       {s,u}qxtn
S_FCVTXN     fcvtxn
S_FCVT       fcvt{n,p,m,z}{s,u}
S_FCVTA      fcvta{s,u}
S_CVTF       {s,u}cvtf
S_FCMZ       fcm{gt,ge,eq,le,lt}
S_FRECPE     frecpe
S_FRECPX     frecpx
S_FRSQRTE    frsqrte
S_ADDP       addp
S_FADDP      faddp
S_FADDP_h    faddp
S_FMAXNMP    f{max,min}nmp
S_FMAXNMP_h  f{max,min}nmp
S_FMAXP      f{max,min}p
S_FMAXP_h    f{max,min}p
S_SQDMLAL    sqdml{a,s}l
S_SQDMULL    sqdmull
S_QADDSUB    {s,u}q{add,sub}
S_CM         cm{gt,hi,ge,hs}
S_SHL_reg    {s,u}{,r}shl
S_QSHL_reg   {s,u}q{,r}shl
S_ADDSUB     add sub
S_CMTST_CMEQ cmtst cmeq
S_SQDMULH    sq{,r}dmulh
S_FMULX      fmulx
S_FRECPS     frecps
S_FRSQRTS    frsqrts
S_FABD       fabd
S_FCM        fcm{eq,ge,gt}
S_FAC        fac{ge,gt}
S_SHR        {s,u}{,r}{shr,sra}
S_SRI        sri
S_SHL        shl sli
S_SQSHLU     sqshlu
S_QSHL       {s,u}qshl
S_SQSHRUN    sq{,r}shrun
S_QSHRN      {s,u}q{,r}shrn
S_CVTF_fix   {s,u}cvtf
S_FCVTZ_fix  fcvtz{s,u}
S_SQDMLAL_e  sqdml{a,s}l
S_SQDMULL_e  sqdmull
S_SQDMULH_e  sq{,r}dmulh
S_SQRDMLAH_e sqrdml{a,s}h
S_FMLA_e     fml{a,s}
S_FMLA_eh    fml{a,s}
S_FMUL_e     fmul{,x}
S_FMUL_eh    fmul{,x}
V_TBL        tb{l,x}
V_UZP        uzp{1,2}
V_TRN        trn{1,2}
V_ZIP        zip{1,2}
V_EXT        ext
V_DUP_e      dup
V_DUP        dup
V_SMOV       smov
V_UMOV       umov mov
V_INS        mov
V_INS_e      mov
V_FMAXMINNM_h   f{max,min}nm
V_FMAXMINNMP_h  f{max,min}nmp
V_FMLA_h     fml{a,s}
V_FADDSUB_h  f{add,sub}
V_FADDP_h    faddp
V_FABD_h     fabd
V_FMULX_h    fmulx
V_FMUL_h     fmul
V_FCM_h      fcm{eq,ge,gt}
V_FAC_h      fac{ge,gt}
V_FMAXMIN_h  f{max,min}
V_FMAXMINP_h f{max,min}p
V_FRECPS_h   frecps
V_FRSQRTS_h  frsqrts
V_FDIV_h     fdiv
V_FRINT_h    frint{n,m,p,z,a,x,i}
V_FCVT_h     fcvt{n,p,m,z}{s,u}
V_FCVTA_h    fcvta{s,u}
V_CVTF_h     {s,u}cvtf
V_FCMZ_h     fcm{gt,ge,eq,le,lt}
V_FABS_h     fabs fneg
V_FRECPE_h   frecpe
V_FRSQRTE_h  frsqrte
V_FSQRT_h    fsqrt
V_SQRDMLAH   sqrdml{a,s}h
V_DOT        {s,u}dot
V_FCMLA      fcmla
V_FCADD      fcadd
V_REV        rev{16,32,64}
V_ADDLP      {s,u}{addlp,adalp}
V_SUQADD     suqadd usqadd
V_CLS        cls clz
V_CNT        cnt
V_NOT        mvn
V_RBIT       rbit
V_SQABS      sq{abs,neg}
V_CMZ        cm{gt,ge,eq,le,lt}
V_ABS        abs neg
V_XTN        xtn{,2}
V_SQXTUN     sqxtun{,2}
V_SHLL       shll{,2}
V_QXTN       {s,u}qxtn{,2}
V_FCVTN      fcvtn{,2}
V_FCVTXN     fcvtxn{,2}
V_FCVTL      fcvtl{,2}
V_FRINT      frint{n,m,p,z,a,x,i}
V_FRINTTS    frint{32,64}{x,z}
V_FCVT       fcvt{n,p,m,z}{s,u}
V_FCVTA      fcvta{s,u}
V_CVTF       {s,u}cvtf
V_FCMZ       fcm{gt,ge,eq,le,lt}
V_FABS       fabs fneg
V_URECPE     urecpe ursqrte
V_FRECPE     frecpe
V_FRSQRTE    frsqrte
V_FSQRT      fsqrt
V_ADDLV      {s,u}addlv
V_MAXMINV    {s,u}{max,min}v
V_ADDV       addv
V_FMAXNMV    f{max,min}nmv
V_FMAXNMV_h  f{max,min}nmv
V_FMAXV      f{max,min}v
V_FMAXV_h    f{max,min}v
V_ADDL       {s,u}{add,sub}l{,2}
V_ADDW       {s,u}{add,sub}w{,2}
V_ADDHN      {,r}{add,sub}hn{,2}
V_ABAL       {s,u}abal{,2}
V_ABDL       {s,u}abdl{,2}
V_MLAL       {s,u}ml{a,s}l{,2}
V_SQDMLAL    sqdml{a,s}l{,2}
V_MULL       {s,u}mull{,2}
V_SQDMULL    sqdmull{,2}
V_PMULL      pmull{,2}
V_HADDSUB    {s,u}h{add,sub}
V_QADDSUB    {s,u}q{add,sub}
V_RHADD      {s,u}rhadd
V_LOGIC      and bic orr orn eor bsl bit bif mov?
V_CM         cm{gt,hi,ge,hs}
V_SHL_reg    {s,u}{,r}shl
V_QSHL_reg   {s,u}q{,r}shl
V_MAXMIN     {s,u}{max,min}
V_ABD        {s,u}abd
V_ABA        {s,u}aba
V_ADDSUB     add sub
V_CMTST_CMEQ cmtst cmeq
V_MLA        ml{a,s}
V_MUL        mul
V_PMUL       pmul
V_MAXMINP    {s,u}{max,min}p
V_SQDMULH    sq{,r}dmulh
V_ADDP       addp
V_FMAXMINNM  f{max,min}nm
V_FMAXMINNMP f{max,min}nmp
V_FMLA       fml{a,s}
V_FADDSUB    f{add,sub}
V_FADDP      faddp
V_FABD       fabd
V_FMULX      fmulx
V_FMUL       fmul
V_FCM        fcm{eq,ge,gt}
V_FAC        fac{ge,gt}
V_FMAXMIN    f{max,min}
V_FMAXMINP   f{max,min}p
V_FRECPS     frecps
V_FRSQRTS    frsqrts
V_FDIV       fdiv
V_FMLAL      fml{a,s}l{,2}
V_MOVI       movi mvni orr bic fmov
V_SHR        {s,u}{,r}{shr,sra}
V_SRI        sri
V_SHL        shl sli
V_SQSHLU     sqshlu
V_QSHL       {s,u}qshl
V_SHRN       {,r}shrn{,2}
V_SQSHRUN    sq{,r}shrun{,2}
V_QSHRN      {s,u}q{,r}shrn{,2}
V_SHLL_imm   {s,u}shll{,2} {s,u}xtl{,2}?
V_CVTF_fix   {s,u}cvtf
V_FCVTZ_fix  fcvtz{s,u}
V_MLA_e      ml{a,s}
V_MLAL_e     {s,u}ml{a,s}l{,2}
V_SQDMLAL_e  sqdml{a,s}l{,2}
V_MUL_e      mul
V_MULL_e     {s,u}mull{,2}
V_SQDMULL_e  sqdmull{,2}
V_SQDMULH_e  sq{,r}dmulh
V_SQRDMLAH_e sqrdml{a,s}h
V_DOT_e      {s,u}dot
V_FMLA_e     fml{a,s}
V_FMLA_eh    fml{a,s}
V_FMUL_e     fmul{,x}
V_FMUL_eh    fmul{,x}
V_FMLAL_e    fml{a,s}l{,2}
V_FCMLA_e    fcmla
XAR          xar
SHA512H      sha512h{,2}
SHA512SU1    sha512su1
RAX1         rax1
EOR3_BCAX    eor3 bcax
SHA512SU0    sha512su0
CVTF_fix     {s,u}cvtf
FCVTZ_fix    fcvtz{s,u}
FCVT_int     fcvt{n,p,m,z}{s,u}
CVTF_int     {s,u}cvtf
FCVTA_int    fcvta{s,u}
FMOV_int     fmov
FJCVTZS      fjcvtzs
FMOV         fmov
FABS         fabs
FNEG         fneg
FSQRT        fsqrt
FCVT         fcvt
FRINT        frint{n,p,m,z,a,x,i}
FRINTTS      frint{32,64}{x,z}
FCMP         fcmp{,e}
FMOV_imm     fmov
FCCMP        fccmp{,e}
FMUL         f{,n}mul
FDIV         fdiv
FADDSUB      f{add,sub}
FMAXMIN      f{max,min}{,nm}
FCSEL        fcsel
FMADD        f{,n}m{add,sub}
"""
# What capstone 5 does not know, or prints as a move to a system register; objdump knows them.
CAPSTONE_LACKS = ("SB", "XAFLAG", "AXFLAG", "CFINV")

# Mnemonics of what is not in the table, by the extension that brings them.
LATER = {
    "MTE": r"(add|sub)g|subps?|cmpp|irg|gmi|stz?2?g|stgp|ldgm?|stz?gm",
    "BF16": r"bf.*",
    "I8MM": r"(s|u|us)mmla|usdot|sudot",
    "MOPS": r"cpy.*|set[gpme].*",
    "SM3, SM4": r"sm[34].*",
    "LS64": r"(ld|st)64b(v0?)?",
    "TME": r"tstart|tcommit|tcancel|ttest",
    "HBC": r"bc\..*",
    "WFxT": r"wf[ei]t",
    "CSSC": r"abs|cnt|ctz|[su](max|min)",
    "SME": r"smst(art|op)",
    "XS": r"dsb\s.*nxs",
    "debug state": r"dcps[123]|drps",
}


# Fields and what capstone prints for them: which field is which.
FIELDS = """
ADR immlo=3 immhi=5 rd=2: adr x2, #0x17
ADDSUB_imm sf=1 sh=1 imm12=7 rn=1 rd=2: add x2, x1, #7, lsl #12
LOGIC_imm sf=1 opc=2 N=1 immr=3 imms=4 rn=1 rd=2: eor x2, x1, #0xe000000000000003
MOVW sf=1 opc=3 hw=2 imm16=9 rd=2: movk x2, #9, lsl #32
BITFIELD sf=1 opc=2 N=1 immr=4 imms=11 rn=1 rd=2: ubfx x2, x1, #4, #8
EXTR sf=1 N=1 rm=3 imms=9 rn=1 rd=2: extr x2, x1, x3, #9
B_cond imm19=4 cond=1: b.ne #0x10
MSR op1=3 o0=1 crn=13 crm=0 op2=2 rt=5: msr tpidr_el0, x5
MRS op1=3 o0=1 crn=4 crm=2 op2=0 rt=5: mrs x5, nzcv
SYS op1=3 crn=7 crm=10 op2=1 rt=5: dc cvac, x5
HINT crm=4 op2=2: bti c
MSR_imm op1=0 crm=1 op2=3: msr uao, #1
MSR_imm op1=0 crm=1 op2=4: msr pan, #1
MSR_imm op1=0 crm=1 op2=5: msr spsel, #1
MSR_imm op1=3 crm=1 op2=1: msr ssbs, #1
MSR_imm op1=3 crm=1 op2=2: msr dit, #1
MSR_imm op1=3 crm=15 op2=6: msr daifset, #0xf
MSR_imm op1=3 crm=15 op2=7: msr daifclr, #0xf
BR opc=2 rn=3: ret x3
CBZ op=1 imm19=4 rt=5: cbnz w5, #0x10
TBZ b5=1 b40=3 imm14=4 rt=5: tbz x5, #0x23, #0x10
LDn_multi Q=1 L=1 opcode=8 size=2 rn=3 rt=5: ld2 {v5.4s, v6.4s}, [x3]
LDn_multi_post Q=1 opcode=7 size=0 rm=4 rn=3 rt=5: st1 {v5.16b}, [x3], x4
LDn_single Q=1 L=1 R=1 opcode=2 S=1 size=2 rn=3 rt=5: ld2 {v5.h, v6.h}[7], [x3]
LDn_single_post Q=1 L=1 opcode=6 size=1 rm=31 rn=3 rt=5: ld1r {v5.8h}, [x3], #2
EXCL size=3 rs=6 o0=1 rn=3 rt=5: stlxr w6, x5, [x3]
EXCLP sz=1 L=1 rs=31 o0=1 rt2=7 rn=3 rt=5: ldaxp x5, x7, [x3]
CAS size=3 L=1 rs=6 rn=3 rt=5: casa x6, x5, [x3]
CASP sz=1 o0=1 rs=6 rn=3 rt=8: caspl x6, x7, x8, x9, [x3]
LDAPUR size=3 opc=1 imm9=511 rn=3 rt=5: ldapur x5, [x3, #-1]
LDP opc=2 mode=3 L=1 imm7=127 rt2=7 rn=3 rt=5: ldp x5, x7, [x3, #-8]!
LDST_imm9 size=3 opc=1 imm9=8 mode=1 rn=3 rt=5: ldr x5, [x3], #8
LDST_imm9 size=3 opc=1 imm9=8 mode=2 rn=3 rt=5: ldtr x5, [x3, #8]
LSE size=3 A=1 rs=6 opc=3 rn=3 rt=5: ldseta x6, x5, [x3]
LDST_reg size=3 opc=1 rm=4 option=6 S=1 rn=3 rt=5: ldr x5, [x3, w4, sxtw #3]
LDRA M=1 S=1 imm9=511 W=1 rn=3 rt=5: ldrab x5, [x3, #-8]!
LDST_uimm size=1 opc=2 imm12=3 rn=3 rt=5: ldrsh x5, [x3, #6]
UDIV_SDIV o=1 rm=3 rn=1 rd=2: sdiv w2, w1, w3
CRC32 C=1 sz=1 rm=3 rn=1 rd=2: crc32ch w2, w1, w3
LOGIC_shift opc=1 shift=2 N=1 rm=3 imm6=7 rn=1 rd=2: orn w2, w1, w3, asr #7
ADDSUB_ext sf=1 op=1 S=1 rm=3 option=2 imm3=1 rn=1 rd=2: subs x2, x1, w3, uxtw #1
RMIF imm6=9 rn=1 mask=5: rmif x1, #9, #5
CCMP sf=1 op=1 imm=1 y=9 cond=1 rn=1 nzcv=4: ccmp x1, #9, #4, ne
CSEL sf=1 op=1 o2=1 rm=3 cond=1 rn=1 rd=2: csneg x2, x1, x3, ne
MADD sf=1 o0=1 rm=3 ra=4 rn=1 rd=2: msub x2, x1, x3, x4
MADDL U=1 rm=3 ra=4 rn=1 rd=2: umaddl x2, w1, w3, x4
V_INS_e imm5=10 imm4=6 rn=1 rd=2: mov v2.h[2], v1.h[3]
V_TBL Q=1 len=1 op=1 rm=3 rn=1 rd=2: tbx v2.16b, {v1.16b, v2.16b}, v3.16b
V_EXT Q=1 imm4=5 rm=3 rn=1 rd=2: ext v2.16b, v1.16b, v3.16b, #5
V_CM Q=1 U=1 eq=1 size=2 rm=3 rn=1 rd=2: cmhs v2.4s, v1.4s, v3.4s
V_QSHL_reg U=1 R=1 size=1 rm=3 rn=1 rd=2: uqrshl v2.4h, v1.4h, v3.4h
V_SHR Q=1 U=1 R=1 A=1 immh=5 immb=3 rn=1 rd=2: ursra v2.4s, v1.4s, #0x15
V_MOVI Q=1 abc=5 cmode=14 defgh=3 rd=2: movi v2.16b, #0xa3
V_FCMLA Q=1 size=2 rot=3 rm=3 rn=1 rd=2: fcmla v2.4s, v1.4s, v3.4s, #0x10e
V_FMLA_e Q=1 L=1 M=1 H=1 o2=1 rm=3 rn=1 rd=2: fmls v2.4s, v1.4s, v19.s[3]
V_MLA_e Q=1 size=1 L=1 M=1 H=1 rm=3 rn=1 rd=2: mla v2.8h, v1.8h, v3.h[7]
V_FRINT Q=1 o2=1 o1=1 rn=1 rd=2: frintz v2.4s, v1.4s
V_FCVT Q=1 U=1 o1=1 rn=1 rd=2: fcvtmu v2.4s, v1.4s
XAR rm=3 imm6=9 rn=1 rd=2: xar v2.2d, v1.2d, v3.2d, #9
EOR3_BCAX op=1 rm=3 ra=4 rn=1 rd=2: bcax v2.16b, v1.16b, v3.16b, v4.16b
CVTF_fix sf=1 ftype=1 scale=60 rn=1 rd=2: scvtf d2, x1, #4
FCVT_int sf=1 ftype=1 rmode=2 U=1 rn=1 rd=2: fcvtmu x2, d1
FMOV_int sf=1 ftype=2 hi=1 op=1 rn=1 rd=2: fmov v2.d[1], x1
FCVT ftype=1 opc=3 rn=1 rd=2: fcvt h2, d1
FCMP ftype=1 rm=3 rn=1 E=1: fcmpe d1, d3
FCCMP ftype=1 rm=3 cond=1 rn=1 E=1 nzcv=4: fccmpe d1, d3, #4, ne
FMAXMIN ftype=1 nm=1 op=1 rm=3 rn=1 rd=2: fminnm d2, d1, d3
FMADD ftype=1 o1=1 o0=1 rm=3 ra=4 rn=1 rd=2: fnmsub d2, d1, d3, d4
"""
# Where the manual puts these in all encodings.
PLACES = {"rd": 0, "rt": 0, "rn": 5, "rt2": 10, "ra": 10, "rm": 16, "rs": 16, "Q": 30, "sf": 31}


def expand(text: str) -> list[str]:
    """All that a text with {a,b} can be."""
    parts = [part.split(",") if index % 2 else [part] for index, part in enumerate(re.split("[{}]", text))]
    return ["".join(chosen) for chosen in product(*parts)]


def expected() -> dict[str, tuple[set[str], set[str]]]:
    """By name: what must turn up, and what may."""
    table = {}
    for line in re.sub(r"\n +", " ", MNEMONICS.strip()).splitlines():
        name, *texts = line.split()
        must = {word for text in texts if not text.endswith("?") for word in expand(text)}
        may = {word for text in texts if text.endswith("?") for word in expand(text[:-1])}
        table[name] = (must, may)
    return table


def words_of(encoding: Encoding, rng: random.Random, count: int) -> Iterator[int]:
    """Words of an encoding whose meaning the manual gives; wide fields are often all zeros or all ones."""
    while count:
        word = encoding.value | encoding.should
        for field in encoding.fields.values():
            ones = (1 << field.width) - 1
            edge = field.width > 3 and rng.random() < 0.5
            word |= (rng.choice((0, ones)) if edge else rng.randint(0, ones)) << field.shift
        if encoding.matches(word) and not encoding.is_unpredictable(word):
            count -= 1
            yield word


def words_near(rng: random.Random, count: int) -> Iterator[int]:
    """Random words, and words of each encoding with up to three bits turned over."""
    for _ in range(count * 100):
        yield rng.getrandbits(32)
    for encoding in TABLE:
        for _ in range(count):
            word = encoding.value | rng.getrandbits(32) & ~encoding.mask
            for _ in range(rng.choice((0, 1, 1, 2, 3))):
                word ^= 1 << rng.randrange(32)
            yield word


def by_capstone(words: list[int]) -> list[str]:
    """The text of each word, "" where capstone has none."""
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    found = (next(engine.disasm_lite(struct.pack("<I", word), 0), None) for word in words)
    return [f"{one[2]} {one[3]}".strip() if one else "" for one in found]


def by_objdump(words: list[int], folder: Path) -> list[str]:
    """The text of each word, "" where GNU objdump has none."""
    objdump = shutil.which("aarch64-linux-gnu-objdump")
    if objdump is None:
        pytest.skip("aarch64-linux-gnu-objdump is not installed: apt-get install binutils-aarch64-linux-gnu")
    (folder / "words").write_bytes(struct.pack(f"<{len(words)}I", *words))
    command = [objdump, "-D", "-z", "-b", "binary", "-m", "aarch64", str(folder / "words")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    lines = re.findall(r"^\s*[0-9a-f]+:\t([0-9a-f]{8}) \t(.*)", listing, re.MULTILINE)
    assert [int(word, 16) for word, _ in lines] == words
    return [
        "" if text.startswith(".inst") else re.sub(r"\s+", " ", text.partition("//")[0]).strip()
        for _, text in lines
    ]


def missing(words: list[int], texts: list[str]) -> list[str]:
    """What a disassembler names, and the table neither has nor leaves out."""
    later = re.compile("|".join(LATER.values()))
    bad = []
    for word, text in zip(words, texts, strict=True):
        mnemonic, _, operands = text.partition(" ")
        if not text or TABLE.decode(word) is not None:
            continue
        if word >> 25 & 15 < 3:  # reserved (UDF), SME, SVE
            continue
        # op0 0 holds hints, barriers and PSTATE (MTE's TCO among them); both disassemblers print anything
        # else there as a move of a system register that does not exist.
        if word & 0xFFC80000 == 0xD5000000 and mnemonic in ("msr", "mrs", "sys", "sysl"):
            continue
        # objdump takes sz for a don't-care bit; the manual says that 1 is undefined.
        if re.fullmatch("fml[as]l2?", mnemonic) and word >> 22 & 1:
            continue
        if not later.fullmatch(mnemonic) and not later.fullmatch(f"{mnemonic} {operands}"):
            bad.append(f"{word:#010x} {text}")
    return bad


def test_two_lines_that_a_word_could_both_be_are_an_error_that_names_both():
    text = "ONE 0000 rd:28\nTWO 00 op:2 rd:28\n"
    with pytest.raises(TableError, match=r"t:1: ONE overlaps TWO \(t:2\): 0x00000000 is both"):
        parse(text, "t")
    assert len(parse("ONE 0000 rd:28\nTWO 00 op:2 rd:28 { op }\n", "t")) == 2
    with pytest.raises(TableError, match="ONE overlaps TWO"):
        parse("ONE 0000 a:24 rd:4 { rd < 3 }\nTWO 00 op:2 a:24 rd:4 { op or rd & 3 == 2 and rd < 9 }\n", "t")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ONE 0000 rd:27", "ONE has 31 bits, not 32"),
        ("ONE 0000 rd:29", "ONE has 33 bits, not 32"),
        ("ONE 01(10)1 rd:28", "a token that is none"),
        ("ONE 0002 rd:28", "a token that is none: '0002'"),
        ("ONE 0000 rd:14 rd:14", "ONE has two fields rd"),
        ("ONE 0000 rd:28 { rn }", "'rn' in 'rn' is neither a field"),
        ("ONE 0000 rd:28 { rd * 2 }", "'rd \\* 2'"),
        ("ONE 0000 rd:28 { rd( }", "ONE: 'rd\\('"),
        ("ONE 0000 rd:28 { rd & 0 }", "ONE"),
        ("ONE 0000 rd:12 _:16 { rd < 0 }", "a token that is none"),
        ("ONE 0000 rd:12 (0000000000000000) { rd < 0 }", "the constraint is never true"),
        ("ONE 0000 rd:28\nONE 0001 rd:28", "t:2: ONE stands at t:1 already"),
        ("one 0000 rd:28", "expected `NAME"),
    ],
)
def test_a_line_that_breaks_the_grammar_is_named(line: str, complaint: str):
    with pytest.raises(TableError, match=complaint):
        parse(line, "t")


def test_words_are_assembled_and_taken_apart():
    encoding = TABLE["ADDSUB_shift"]
    word = encoding.assemble(sf=1, op=1, rm=3, rn=1, rd=2)
    assert by_capstone([word]) == ["sub x2, x1, x3"]
    assert TABLE.decode(word) is encoding
    assert encoding.extract(word) == {
        **{"sf": 1, "op": 1, "S": 0, "shift": 0},
        **{"rm": 3, "imm6": 0, "rn": 1, "rd": 2},
    }
    with pytest.raises(ValueError, match="imm6=64 does not fit"):
        encoding.assemble(imm6=64)
    with pytest.raises(ValueError, match="not allocated"):
        encoding.assemble(imm6=32)
    with pytest.raises(ValueError, match="no field imm12"):
        encoding.assemble(imm12=1)


def test_fields_are_what_capstone_takes_them_for():
    for line in FIELDS.strip().splitlines():
        left, _, text = line.partition(": ")
        name, *values = left.split()
        word = TABLE[name].assemble(**{key: int(value) for key, value in (v.split("=") for v in values)})
        assert by_capstone([word]) == [text], left
        assert TABLE.decode(word) is TABLE[name]


def test_registers_are_where_the_manual_puts_them():
    moved = [e.name for e in TABLE for f in e.fields.values() if f.shift != PLACES.get(f.name, f.shift)]
    assert moved == ["BRA"]  # whose modifier, Rm, is in bits 4 to 0


def test_what_the_manual_leaves_open_is_said_by_field():
    pair = TABLE["LDP"]
    words = [pair.assemble(opc=2, mode=mode, L=1, rt=1, rt2=2, rn=2) for mode in range(4)]
    assert [pair.is_unpredictable(word) for word in words] == [False, True, False, True]
    assert not TABLE["ADR"].is_unpredictable(TABLE["ADR"].assemble())


def test_a_feature_can_depend_on_a_field():
    fadd = TABLE["FADDSUB"]
    assert [fadd.feature_of(fadd.assemble(ftype=ftype)) for ftype in (0, 1, 3)] == ["", "", "fp16"]
    assert TABLE["CAS"].feature_of(TABLE["CAS"].assemble()) == "lse"


def test_capstone_calls_every_encoding_what_it_should_be_called():
    rng = random.Random(SEED)
    names = expected()
    assert list(names) == [encoding.name for encoding in TABLE]
    for encoding in TABLE:
        if encoding.name in CAPSTONE_LACKS:
            continue
        must, may = names[encoding.name]
        words = list(words_of(encoding, rng, 100 * len(must)))
        seen = set()
        for word, text in zip(words, by_capstone(words), strict=True):
            mnemonic = text.partition(" ")[0]
            f = encoding.extract(word)
            if encoding.name == "LDST_imm9" and f["mode"] == 2 and f["rn"] == f["rt"] and not text:
                continue  # LDTR is refused as if it wrote its address back
            assert mnemonic in must | may, f"{encoding}: {word:#010x} is {text!r} (seed {SEED})"
            seen.add(mnemonic)
        assert must - seen == set(), f"{encoding} (seed {SEED})"


def test_objdump_knows_every_word_of_every_encoding(tmp_path):
    rng = random.Random(SEED)
    some = [(encoding, word) for encoding in TABLE for word in words_of(encoding, rng, 200)]
    for (encoding, word), text in zip(some, by_objdump([word for _, word in some], tmp_path), strict=True):
        assert text, f"{encoding}: {word:#010x} (seed {SEED})"
        if encoding.name in CAPSTONE_LACKS:
            assert text == expected()[encoding.name][0].pop()


def test_what_capstone_knows_of_these_extensions_is_in_the_table():
    words = list(words_near(random.Random(SEED), 300))
    assert missing(words, by_capstone(words)) == [], f"seed {SEED}"


def test_what_objdump_knows_of_these_extensions_is_in_the_table(tmp_path):
    words = list(words_near(random.Random(SEED), 500))
    assert missing(words, by_objdump(words, tmp_path)) == [], f"seed {SEED}"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    """A program that prints what the C decoder makes of words, with a function for every encoding."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc) to build the decoder with")
    folder = tmp_path_factory.mktemp("decode")
    lines = ['#include "a64_decode.h"', "#include <stdio.h>", ""]
    for encoding in TABLE:
        formats = " ".join(f"{name}=%u" for name in encoding.fields)
        values = "".join(f", f->{name}" for name in encoding.fields)
        lines += [
            f"INSN({encoding.name})",
            "{",
            f'    (void)t; (void)f; printf("{encoding.name} {formats}\\n"{values});',
            "    return true;",
            "}",
        ]
    lines += [
        "int main(void)",
        "{",
        "    for (uint32_t word; fread(&word, 4, 1, stdin) == 1;) {",
        "        enum a64_encoding e = a64_decode(word);",
        "        if (a64_dispatch(NULL, word) != a64_implemented(e))",
        '            printf("bad: ");',
        '        printf("%s\\n", a64_name(e));',
        "    }",
        "    return 0;",
        "}",
    ]
    (folder / "a64_all.c").write_text("\n".join(lines))
    # Beside copies of the headers that this table and these functions give.
    shutil.copy(NATIVE / "a64_decode.c", folder)
    runpy.run_path(str(NATIVE / "decode_c.py"))["write"](folder, [folder / "a64_all.c"])
    flags = [
        "-std=c11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=undefined",
        "-fno-sanitize-recover",
    ]
    sources = [str(folder / name) for name in ("a64_decode.c", "a64_all.c")]
    subprocess.run([compiler, *flags, *sources, "-o", str(folder / "decoder")], check=True, timeout=120)
    return folder / "decoder"


def test_the_c_decoder_finds_the_encodings_and_fields_that_python_finds(decoder):
    rng = random.Random(SEED)
    words = list(words_near(rng, 200))
    words += [word for encoding in TABLE for word in words_of(encoding, rng, 50)]
    done = subprocess.run(
        [decoder], input=struct.pack(f"<{len(words)}I", *words), capture_output=True, check=True, timeout=120
    )
    lines = iter(done.stdout.decode().splitlines())
    for word in words:
        encoding = TABLE.decode(word)
        if encoding is None:
            assert next(lines) == "NONE", f"{word:#010x} (seed {SEED})"
            continue
        fields = " ".join(f"{name}={value}" for name, value in encoding.extract(word).items())
        assert next(lines) == f"{encoding.name} {fields}", f"{word:#010x} (seed {SEED})"
        assert next(lines) == encoding.name
    assert next(lines, None) is None


def test_a_function_for_what_the_table_has_not_is_refused(tmp_path):
    write = runpy.run_path(str(NATIVE / "decode_c.py"))["write"]
    source = tmp_path / "a64_wrong.c"
    source.write_text("INSN(ADDSUB_imm)\nINSN(FROB)\n")
    with pytest.raises(
        ValueError, match=r"a64_wrong.c: INSN\(FROB\): isa/aarch64.decode has no encoding FROB"
    ):
        write(tmp_path, [source])
    source.write_text("INSN(ADR)\nINSN(ADR)\n")
    with pytest.raises(ValueError, match=r"INSN\(ADR\) stands in a64_wrong.c too"):
        write(tmp_path, [source])
