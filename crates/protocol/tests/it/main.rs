//! Tests of the wire types: the document's vectors, round trips, hostile input, identifiers.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod ids;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vectors;
