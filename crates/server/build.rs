//! Has the linker keep one copy of functions whose code is the same: generic code and the bodies of asynchronous functions are compiled once for
//! every crate that uses them, and what lies in memory of an idle server is mostly its program.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    // On this target rustc links with LLD, which knows the option.
    if is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
