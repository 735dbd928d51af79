//! What a module without the standard library has to provide itself: an allocator and a panic handler. A panic is a bug
//! in our code. It traps without a message, because panic messages would be a tenth of the module. The host sees the
//! trap and creates a new client.

/// A small allocator that merges freed blocks.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
