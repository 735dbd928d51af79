//! Puts the page into the program. Comes in: `page/dist`, as `cargo xtask page` built it. Goes out: `page.rs`, a table of its
//! files; an empty one where the page was not built, so that the server builds without Node (ADR 0035). Deliberately absent:
//! building the page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // There even where nothing was built, so that cargo sees when something is.
    println!("cargo::rerun-if-changed=page/dist");
    let path = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let dist = path("CARGO_MANIFEST_DIR")?.join("page/dist");
    let table = match fs::read_to_string(dist.join("files.txt")) {
        Ok(list) => table(&dist, &list)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "&[]".to_owned(),
        Err(error) => return Err(error),
    };
    fs::write(path("OUT_DIR")?.join("page.rs"), table)
}

/// An expression of type `&[File]`.
fn table(dist: &Path, list: &str) -> io::Result<String> {
    let mut table = String::from("&[\n");
    for line in list.lines() {
        let mut words = line.split('\t');
        let (Some(name), Some(kind), Some(hash), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(io::Error::other(format!("files.txt: `{line}` is no line of this list")));
        };
        let bytes = |end: &str| format!("include_bytes!({:?})", dist.join(format!("{name}{end}")));
        let etag = format!("W/\"{hash}\"");
        let (plain, gzip, brotli) = (bytes(""), bytes(".gz"), bytes(".br"));
        writeln!(
            table,
            "File {{ name: {name:?}, kind: {kind:?}, etag: {etag:?}, \
             plain: {plain}, gzip: {gzip}, brotli: {brotli} }},"
        )
        .map_err(io::Error::other)?;
    }
    table.push(']');
    Ok(table)
}
