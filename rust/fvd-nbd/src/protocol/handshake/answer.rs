//! The answer to each option.

use super::data::{InfoQuery, MetaQuery, Rejection, string};
use super::reply::Replies;
use super::{Catalog, Event, Handshake, TlsPolicy};
use crate::protocol::constants::{FLAG_NO_ZEROES, MAX_OPTION_DATA, opt, rep};
use crate::protocol::error::ProtocolError;
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Contexts;
use crate::protocol::session::{HeaderStyle, Session};

/// What was agreed with the client so far. When TLS starts, it is reset.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    style: HeaderStyle,
    /// The contexts of the last `SET_META_CONTEXT`, and the export that it named.
    selected: Option<(String, Contexts)>,
}

impl Agreed {
    /// The selected contexts if they were selected for the export `name`, otherwise none.
    fn contexts_of(&self, name: &str) -> Contexts {
        match &self.selected {
            Some((export, contexts)) if export == name => *contexts,
            _ => Contexts::NONE,
        }
    }
}

impl Handshake {
    /// Answers one option. `data` is None if it was too long and was skipped.
    pub(super) fn answer(
        &mut self,
        option: u32,
        data: Option<&[u8]>,
        catalog: &dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Event, ProtocolError> {
        let mut replies = Replies { option, out };
        if option == opt::SET_META_CONTEXT {
            // Even if it fails, it replaces the previous selection.
            self.agreed.selected = None;
        }
        if option == opt::EXPORT_NAME {
            return self.export_name(data, catalog, &mut replies);
        }
        let event = match (option, data) {
            // Its data is ignored: a client may always leave.
            (opt::ABORT, _) => {
                replies.ack();
                Ok(Event::Aborted)
            }
            _ if self.tls_is_missing() && option != opt::STARTTLS => Err(Rejection::new(
                rep::ERR_TLS_REQD,
                "this server talks to you over TLS only",
            )),
            _ if self.shutting_down => Err(Rejection::new(rep::ERR_SHUTDOWN, "this server is shutting down")),
            (option, Some(data)) => self.dispatch(option, data, catalog, &mut replies),
            (option, None) => Err(too_long(option)),
        };
        Ok(event.unwrap_or_else(|rejection| {
            replies.reject(&rejection);
            Event::Reply
        }))
    }

    /// Appends to `replies` only on success.
    fn dispatch(
        &mut self,
        option: u32,
        data: &[u8],
        catalog: &dyn Catalog,
        replies: &mut Replies<'_>,
    ) -> Result<Event, Rejection> {
        match option {
            opt::LIST => {
                no_data(data)?;
                for export in catalog.list() {
                    replies.server(&export);
                }
            }
            opt::STARTTLS => return self.start_tls(data, replies),
            opt::INFO => {
                self.info(data, catalog, replies)?;
            }
            opt::GO => {
                let session = self.info(data, catalog, replies)?;
                replies.ack();
                return Ok(Event::Done(session));
            }
            opt::STRUCTURED_REPLY => self.structured_reply(data)?,
            opt::EXTENDED_HEADERS => self.extended_headers(data)?,
            opt::LIST_META_CONTEXT => self.list_contexts(data, catalog, replies)?,
            opt::SET_META_CONTEXT => self.set_contexts(data, catalog, replies)?,
            _ => return Err(unknown(option)),
        }
        replies.ack();
        Ok(Event::Reply)
    }

    fn tls_is_missing(&self) -> bool {
        self.tls == TlsPolicy::Required && !self.encrypted
    }

    /// `EXPORT_NAME` has no error reply. A failure ends the connection.
    fn export_name(
        &mut self,
        data: Option<&[u8]>,
        catalog: &dyn Catalog,
        replies: &mut Replies<'_>,
    ) -> Result<Event, ProtocolError> {
        let refuse = |why: String| Err(ProtocolError::ExportName(why));
        if self.tls_is_missing() {
            return refuse("TLS is required".into());
        }
        if self.shutting_down {
            return refuse("the server is shutting down".into());
        }
        if self.agreed.style == HeaderStyle::Extended {
            return refuse("extended headers go with GO only".into());
        }
        let name = match data.map(|data| string("the name of the export", data)) {
            Some(Ok(name)) => name,
            Some(Err(rejection)) => return refuse(rejection.message),
            None => return refuse("the name of the export is too long".into()),
        };
        let Some(export) = catalog.find(name) else {
            return refuse(no_such_export(name).message);
        };
        replies.export_name(&export, self.agreed.style, !self.client_set(FLAG_NO_ZEROES));
        Ok(Event::Done(self.session(name, export)))
    }

    fn start_tls(&self, data: &[u8], replies: &mut Replies<'_>) -> Result<Event, Rejection> {
        if self.tls == TlsPolicy::Off {
            return Err(Rejection::new(rep::ERR_UNSUP, "this server has no TLS"));
        }
        no_data(data)?;
        if self.encrypted {
            return Err(Rejection::invalid("TLS is in use already"));
        }
        replies.ack();
        Ok(Event::StartTls)
    }

    /// Replies with the information about an export, without the final acknowledgement.
    fn info(&self, data: &[u8], catalog: &dyn Catalog, replies: &mut Replies<'_>) -> Result<Session, Rejection> {
        let query = InfoQuery::parse(data)?;
        let export = find(catalog, query.export)?;
        replies.info(&export, self.agreed.style, &query.wanted);
        Ok(self.session(query.export, export))
    }

    fn structured_reply(&mut self, data: &[u8]) -> Result<(), Rejection> {
        no_data(data)?;
        match self.agreed.style {
            HeaderStyle::Simple => self.agreed.style = HeaderStyle::Structured,
            HeaderStyle::Structured => return Err(Rejection::invalid("structured replies are in use already")),
            // The extension defines a separate error for this: extended headers take precedence.
            HeaderStyle::Extended => {
                let message = "extended headers are in use already";
                return Err(Rejection::new(rep::ERR_EXT_HEADER_REQD, message));
            }
        }
        Ok(())
    }

    fn extended_headers(&mut self, data: &[u8]) -> Result<(), Rejection> {
        no_data(data)?;
        if self.agreed.style == HeaderStyle::Extended {
            return Err(Rejection::invalid("extended headers are in use already"));
        }
        self.agreed.style = HeaderStyle::Extended;
        Ok(())
    }

    fn list_contexts(&self, data: &[u8], catalog: &dyn Catalog, replies: &mut Replies<'_>) -> Result<(), Rejection> {
        self.structured_first()?;
        let query = MetaQuery::parse(data)?;
        let offered = find(catalog, query.export)?.contexts;
        let listed = match query.queries.as_slice() {
            [] => offered,
            queries => offered.matching(queries, true),
        };
        for context in listed.iter() {
            replies.context(context, 0);
        }
        Ok(())
    }

    fn set_contexts(&mut self, data: &[u8], catalog: &dyn Catalog, replies: &mut Replies<'_>) -> Result<(), Rejection> {
        self.structured_first()?;
        let query = MetaQuery::parse(data)?;
        let offered = find(catalog, query.export)?.contexts;
        let selected = offered.matching(&query.queries, false);
        for context in selected.iter() {
            replies.context(context, context.id());
        }
        self.agreed.selected = Some((query.export.to_owned(), selected));
        Ok(())
    }

    fn structured_first(&self) -> Result<(), Rejection> {
        if self.agreed.style.is_structured() {
            Ok(())
        } else {
            Err(Rejection::invalid("metadata contexts need structured replies"))
        }
    }

    fn session(&self, name: &str, export: ExportInfo) -> Session {
        let style = self.agreed.style;
        let contexts = self.agreed.contexts_of(name);
        Session {
            export,
            style,
            contexts,
            encrypted: self.encrypted,
        }
    }
}

fn find(catalog: &dyn Catalog, name: &str) -> Result<ExportInfo, Rejection> {
    catalog.find(name).ok_or_else(|| no_such_export(name))
}

fn no_such_export(name: &str) -> Rejection {
    // The message is a protocol string of at most 4096 bytes, and the name alone could be that long.
    let name: String = name.chars().take(256).collect();
    Rejection::new(rep::ERR_UNKNOWN, format!("there is no export {name:?}"))
}

fn no_data(data: &[u8]) -> Result<(), Rejection> {
    if data.is_empty() {
        Ok(())
    } else {
        Err(Rejection::invalid("this option has no data"))
    }
}

fn unknown(option: u32) -> Rejection {
    Rejection::new(rep::ERR_UNSUP, format!("this server does not know option {option}"))
}

/// An unknown option gets the same answer whatever its length, so that the client does not try it again.
fn too_long(option: u32) -> Rejection {
    match option {
        opt::LIST..=opt::EXTENDED_HEADERS if option != 4 => Rejection::new(
            rep::ERR_TOO_BIG,
            format!("the data of an option has at most {MAX_OPTION_DATA} bytes"),
        ),
        _ => unknown(option),
    }
}
