//! Sees to it that the command is compiled anew when the SDK that it carries changes.

fn main() {
    for carried in ["../../guest-sdk/rust", "../../wit", "template"] {
        println!("cargo::rerun-if-changed={carried}");
    }
}
