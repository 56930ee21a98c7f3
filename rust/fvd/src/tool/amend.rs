//! Amend an image by path.

use std::path::Path;

use crate::chain::{self, ChainOptions};
use crate::error::{Error, Result};
use crate::format::Header;
use crate::gate::Gate;
use crate::image::amend::{self, Changes};
use crate::image::read_head;

/// Makes the changes to the image at `path`, which nobody else may have open, and gives its header.
///
/// Its base is never opened; its data file, through the gate, only where a change needs it.
///
/// Fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for other formats.
pub async fn amend(path: &Path, format: Option<&str>, changes: &Changes, gate: &Gate) -> Result<Header> {
    let options = ChainOptions {
        writable: true,
        gate: gate.clone(),
        ..ChainOptions::default()
    };
    let file = chain::open_file(path, &options)?;
    let format = match format {
        Some(format) => chain::known_format(format)?,
        None => chain::probe_format(&file).await?,
    };
    if format != "fvd" {
        let message = format!("Format driver '{format}' does not support option amendment");
        return Err(Error::unsupported(message).with_path(path));
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    if let Some(name) = changes.names().find(|name| directory.join(name) == path) {
        let message = format!("'{}' is the image itself", name.display());
        return Err(Error::invalid_argument(message).with_path(path));
    }
    let mut head = read_head(&file).await?;
    let data = match amend::needs_data(&file, &head, changes).await? {
        Some(name) => {
            head.header.data_file = name;
            chain::open_data(path, &head, &file, &options)?
        }
        None => None,
    };
    amend::amend(&file, data.as_ref(), changes).await
}
