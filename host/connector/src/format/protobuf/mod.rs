//! Protocol Buffers: messages by their [`descriptors`], which `protoc --include_imports --descriptor_set_out` writes. A [`reader`] is a message's descriptor,
//! bound to columns, and so is a [`writer`]; [`wire`] is how fields lie one after another.

pub(crate) mod descriptors;
pub(crate) mod reader;
pub(crate) mod wire;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

pub(crate) use reader::Protobuf;
pub(crate) use writer::ProtobufWriter;
