//! What a module without the standard library brings itself: memory, and an end. A panic is a bug of ours. It traps
//! without a word, as the text of panics would be a tenth of the module; the host sees the trap and builds the client
//! anew.

/// Small, and joins what is freed.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
