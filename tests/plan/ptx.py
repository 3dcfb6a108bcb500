"""Two small CUDA kernels as PTX, which the driver compiles when it loads them."""

_HEAD = """
.version 7.0
.target sm_52
.address_size 64
"""

# dst[i] = a[i] + b[i] for i < n
ADD = (
    _HEAD
    + """
.visible .entry add_u32(.param .u64 dst, .param .u64 a, .param .u64 b, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<12>;
    ld.param.u64 %rd1, [dst];
    ld.param.u64 %rd2, [a];
    ld.param.u64 %rd3, [b];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd4, %rd1;
    cvta.to.global.u64 %rd5, %rd2;
    cvta.to.global.u64 %rd6, %rd3;
    mul.wide.u32 %rd7, %r5, 4;
    add.u64 %rd8, %rd5, %rd7;
    add.u64 %rd9, %rd6, %rd7;
    add.u64 %rd10, %rd4, %rd7;
    ld.global.u32 %r6, [%rd8];
    ld.global.u32 %r7, [%rd9];
    add.u32 %r8, %r6, %r7;
    st.global.u32 [%rd10], %r8;
DONE:
    ret;
}
"""
).encode()

# dst[0] = value, by way of dynamic shared memory at a byte offset
SHARED = (
    _HEAD
    + """
.extern .shared .align 16 .b8 memory[];
.visible .entry through_shared(.param .u64 dst, .param .u32 offset, .param .u32 value)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [dst];
    ld.param.u32 %r1, [offset];
    ld.param.u32 %r2, [value];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r3, memory;
    add.u32 %r4, %r3, %r1;
    st.volatile.shared.u32 [%r4], %r2;
    bar.sync 0;
    ld.volatile.shared.u32 %r5, [%r4];
    st.global.u32 [%rd2], %r5;
    ret;
}
"""
).encode()
