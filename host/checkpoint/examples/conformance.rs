//! Tries whether a storage is fit for checkpoints, an S3 server for example:
//! `cargo run --release -p weir-checkpoint --features test-util --example conformance -- s3://bucket/prefix endpoint=http://… allow_http=true`

use weir_checkpoint::{Storage, conformance};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is a URL");
    let options: Vec<_> = arguments
        .map(|option| {
            option.split_once('=').map(|(name, value)| (name.to_string(), value.to_string())).expect("options are name=value")
        })
        .collect();
    let storage = Storage::open(&url, &options).unwrap_or_else(|e| panic!("{e}"));
    conformance::check(&storage).await;
    conformance::check_with_faults(&storage, 1).await;
    println!("{url} is fit for checkpoints");
}
