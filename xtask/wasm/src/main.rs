//! What `cargo xtask wasm` does between the compiler and binaryen, and behind it. It is a package of its own, as its
//! dependencies take a minute to build and no other command needs them.
//!
//! `lianmai-xtask-wasm IN.wasm DIRECTORY` writes `bound.wasm` and `glue.js` into the directory: in comes a module of the
//! compiler, out goes the same with wasm-bindgen's glue for a classic script, with short names, and without what only
//! panics would say.
//! `lianmai-xtask-wasm check FILE.wasm` fails unless phones take the file. Deliberately absent: making it small, and
//! which instructions it has; binaryen does both.

use std::collections::HashSet;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use walrus::ir::{Call, Visitor, dfs_in_order};
use walrus::{ExportItem, Function, FunctionId, FunctionKind, LocalFunction, Module};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(directory)) = (arguments.next(), arguments.next()) else {
        bail!("usage: lianmai-xtask-wasm IN.wasm DIRECTORY | check FILE.wasm");
    };
    if input.as_os_str() == "check" {
        return check(&Module::from_file(&directory)?);
    }
    fs::create_dir_all(&directory)?;
    let bytes = fs::read(&input).with_context(|| format!("cannot read {}", input.display()))?;
    let mut module = Module::from_buffer(&bytes)?;
    // The precompiled standard library names features there that this module does not use; wasm-bindgen would
    // want tables of references for them.
    drop(module.customs.remove_raw("target_features"));
    end_in_traps(&mut module)?;
    blank_texts(&mut module);
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
    let renamed = rename(module)?;
    walrus::passes::gc::run(module);
    fs::write(directory.join("bound.wasm"), module.emit_wasm())?;
    let mut glue = output.js().to_owned();
    for (name, short) in renamed {
        glue = glue.replace(&format!("{name}: function"), &format!("{short}: function"));
    }
    fs::write(directory.join("glue.js"), glue)?;
    Ok(())
}

/// Exports that belong to no class, and their names in `js/src/glue.ts`. Nobody calls those without a name.
const EXPORTS: &[(&str, Option<&str>)] = &[
    ("memory", Some("memory")),
    ("__wbindgen_malloc", Some("malloc")),
    ("__wbindgen_realloc", None),
    ("__wbindgen_free", Some("release")),
    ("__wbindgen_add_to_stack_pointer", Some("stack")),
    ("__wbg_core_free", Some("end")),
];

/// Gives imports and exports short names: phones load each name twice, in the module and in the JavaScript. Returns the
/// old and new names of the imports.
fn rename(module: &mut Module) -> Result<Vec<(String, String)>> {
    let exports: Vec<_> = module.exports.iter().map(walrus::Export::id).collect();
    for id in exports {
        let export = module.exports.get_mut(id);
        let of_class = export.name.strip_prefix("core_").map(|name| Some(name.to_owned()));
        let known = EXPORTS.iter().find(|(name, _)| *name == export.name);
        match of_class.or(known.map(|(_, short)| short.map(str::to_owned))) {
            Some(Some(short)) => export.name = short,
            Some(None) => module.exports.delete(id),
            None => bail!("nobody knows the export {}", export.name),
        }
    }
    let imports: Vec<_> = module.imports.iter().map(walrus::Import::id).collect();
    let mut renamed = vec![];
    for id in imports {
        let import = module.imports.get_mut(id);
        // The JavaScript tells them apart by this word.
        let short = if import.name.contains("throw") { "throw" } else { "keep" }.to_owned();
        if renamed.iter().any(|(_, other)| *other == short) {
            bail!("{} has the same short name as another import", import.name);
        }
        "js".clone_into(&mut import.module);
        renamed.push((std::mem::replace(&mut import.name, short.clone()), short));
    }
    Ok(renamed)
}

/// WeChat on iOS takes no exported globals and no tables, and the JavaScript links imports of one name.
fn check(module: &Module) -> Result<()> {
    for export in module.exports.iter() {
        let (ExportItem::Memory(_) | ExportItem::Function(_)) = export.item else {
            bail!("{} is exported, and neither memory nor a function", export.name);
        };
    }
    let imports: HashSet<_> = module.imports.iter().map(|import| &import.module).collect();
    if imports.len() > 1 {
        bail!("imports of {imports:?}");
    }
    Ok(())
}

/// Where a panic begins.
const PANICS: &[&str] =
    &["4core9panicking", "slice_error_fail", "slice_index_fail", "handle_error"];
/// Formatting.
const TEXTS: &[&str] = &["3fmt", "core..fmt"];

/// Lets panics trap at once. All of them end so, and what would make a text for them first, which nobody sees, is a
/// tenth of the module. The compiler leaves it in.
fn end_in_traps(module: &mut Module) -> Result<()> {
    let named = |function: &Function, names: &[&str]| {
        let name = function.name.as_deref().unwrap_or_default();
        names.iter().any(|part| name.contains(part))
    };
    let ids = |names: &[&str]| -> HashSet<FunctionId> {
        let functions = module.funcs.iter().filter(|function| named(function, names));
        functions.map(Function::id).collect()
    };
    let (panics, texts) = (ids(PANICS), ids(TEXTS));
    // Whoever formats but for a panic gets what it asks for.
    for (id, function) in module.funcs.iter_local() {
        let mut calls = Calls::default();
        if !panics.contains(&id) && !texts.contains(&id) {
            dfs_in_order(&mut calls, function, function.entry_block());
        }
        if let Some(text) = calls.0.iter().find(|callee| texts.contains(callee)) {
            let name = |id| module.funcs.get(id).name.clone().unwrap_or_default();
            bail!("{} formats a text by {}", name(id), name(*text));
        }
    }
    for id in panics.union(&texts).copied() {
        let ty = module.types.get(module.funcs.get(id).ty());
        let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
        let mut trap = walrus::FunctionBuilder::new(&mut module.types, &params, &results);
        trap.func_body().unreachable();
        let arguments = params.iter().map(|param| module.locals.add(*param)).collect();
        let trap: LocalFunction = trap.local_func(arguments);
        module.funcs.get_mut(id).kind = FunctionKind::Local(trap);
    }
    Ok(())
}

/// Where the names of source files begin.
const FILES: [&[u8]; 2] = [b"crates/", b"/rustc/"];
/// What the standard library's panics say.
const SAID: [&str; 11] = [
    "index out of bounds: the len is ",
    " but the index is ",
    "range start index ",
    "range end index ",
    " out of range for slice of length ",
    "slice index starts at ",
    " but ends at ",
    "copy_from_slice: source slice length (",
    ") does not match destination slice length (",
    "memory allocation of ",
    " bytes failed",
];

/// Fills the names of source files and the texts of panics with zeros, which pack to nothing. Only a panic would say
/// them, and it traps.
fn blank_texts(module: &mut Module) {
    let segments: Vec<_> = module.data.iter().map(walrus::Data::id).collect();
    for segment in segments {
        let bytes = &mut module.data.get_mut(segment).value;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_-.".contains(byte);
            let length = rest.iter().take_while(|byte| is_name(byte)).count();
            let end = rest[..length].windows(3).position(|end| end == b".rs").map(|end| end + 3);
            let file = end.filter(|_| FILES.iter().any(|begin| rest.starts_with(begin)));
            let said = SAID.iter().find(|said| rest.starts_with(said.as_bytes()));
            match file.or(said.map(|said| said.len())) {
                Some(end) => {
                    bytes[at..at + end].fill(0);
                    at += end;
                }
                None => at += 1,
            }
        }
    }
}

/// What a function calls by name.
#[derive(Default)]
struct Calls(Vec<FunctionId>);

impl Visitor<'_> for Calls {
    fn visit_call(&mut self, call: &Call) {
        self.0.push(call.func);
    }
}
