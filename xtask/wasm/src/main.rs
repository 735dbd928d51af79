//! The first half of what `cargo xtask wasm` does after the compiler: `lianmai-xtask-wasm IN.wasm DIRECTORY`
//! writes `lianmai.wasm` and `glue.js` into the directory. It is a package of its own, as its dependencies take a
//! minute to build and no other command needs them.
//!
//! In: a module for the MVP of WebAssembly. Out: the same with wasm-bindgen's glue for a classic script.
//! Deliberately absent: what binaryen does afterwards; that is npm's.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use walrus::{ExportItem, Module};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(directory)) = (arguments.next(), arguments.next()) else {
        bail!("usage: lianmai-xtask-wasm IN.wasm DIRECTORY");
    };
    fs::create_dir_all(&directory)?;
    let bytes = fs::read(&input).with_context(|| format!("cannot read {}", input.display()))?;
    let mut module = Module::from_buffer(&bytes)?;
    // The precompiled standard library names features there that this module does not use; wasm-bindgen would
    // want tables of references for them.
    drop(module.customs.remove_raw("target_features"));
    let mut output = Bindgen::new()
        .input_module("lianmai", module)
        .no_modules(true)?
        .no_modules_global("lianmai")?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()?;
    let module = output.wasm_mut();
    // WeChat on iOS does not take exported globals; the glue does not use them.
    let exports = module.exports.iter();
    let globals = exports.filter(|export| matches!(export.item, ExportItem::Global(_)));
    let globals: Vec<_> = globals.map(walrus::Export::id).collect();
    for global in globals {
        module.exports.delete(global);
    }
    walrus::passes::gc::run(module);
    fs::write(directory.join("lianmai.wasm"), module.emit_wasm())?;
    fs::write(directory.join("glue.js"), output.js())?;
    Ok(())
}
