//! Tries whether an S3 server is fit for parts, below a prefix that is empty:
//! `cargo run -p weir-connector --features test-util --example s3_parts -- s3://bucket/prefix endpoint=http://… allow_http=true`

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_connector::{Attempt, Connector, Context, Files, conformance, file};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is a URL");
    let s3: toml::Table = arguments
        .map(|option| {
            let (name, value) = option.split_once('=').expect("options are name=value");
            (name.to_owned(), value.into())
        })
        .collect();
    let mut builder = AmazonS3Builder::from_env().with_url(&url);
    for (name, value) in &s3 {
        builder = builder.with_config(name.parse().expect("a known option"), value.as_str().unwrap_or_default());
    }
    let store = builder.build().unwrap_or_else(|e| panic!("{e}"));
    let (_, prefix) = url.trim_start_matches("s3://").split_once('/').expect("a prefix");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let objects = |folder: String| -> Vec<(String, String)> {
        runtime.block_on(async {
            let mut found = Vec::new();
            let metas: Vec<_> = store.list(Some(&Path::from(folder))).try_collect().await.expect("a list");
            for meta in metas {
                let bytes = store.get(&meta.location).await.expect("an object").bytes().await.expect("bytes");
                found.push((meta.location.to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
            found
        })
    };
    let options = toml::toml! {
        format = "jsonl"
        partition_by = ["flag", "text"]
        roll_bytes = 3000
    };
    let bind = |schema: &arrow_schema::SchemaRef, generation| {
        let mut options = options.clone();
        options.insert("url".into(), url.clone().into());
        options.insert("s3".into(), s3.clone().into());
        let attempt = Attempt { job: "job".into(), generation, ..Attempt::default() };
        let context = Context { attempt, ..Context::new("sink", Files::free(".")) };
        file::File.sink(&options, schema, &context)
    };
    conformance::transactional(&bind, true, &|_| {
        let parts = objects(prefix.to_owned()).into_iter().filter(|(key, _)| key.contains("/part-") && !key.contains("/.weir/"));
        parts.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    });
    let left = objects(format!("{prefix}/.weir"));
    assert!(left.is_empty(), "uploads are left: {left:?}");
    println!("{url} is fit for parts");
}
