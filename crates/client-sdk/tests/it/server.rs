//! A scripted server on a loopback port.

use futures_util::{SinkExt, StreamExt};
use lianmai_client_sdk::protocol::codec::{Element, decode_client_frame};
use lianmai_client_sdk::protocol::message::Request;
use lianmai_client_sdk::protocol::message::session::Joined;
use lianmai_client_sdk::protocol::{Role, SIGNAL_PATH, SUBPROTOCOL};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server as handshake;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::support::{result, snapshot};

pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) url: String,
}

pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Server { listener, url }
    }

    pub(crate) async fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let check = |request: &handshake::Request, mut response: handshake::Response| {
            assert_eq!(request.uri().path(), SIGNAL_PATH);
            assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", chosen);
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, check).await.unwrap();
        Connection { socket }
    }

    /// Accepts a client and admits it at seq 10.
    pub(crate) async fn let_in(&self, role: Role) -> Connection {
        self.let_in_with(snapshot(role, 10, vec![])).await
    }

    pub(crate) async fn let_in_with(&self, snapshot: Joined) -> Connection {
        let mut connection = self.accept().await;
        let request = connection.request().await;
        assert_eq!(request.call.method(), "join");
        connection.send(&result(&request, &snapshot)).await;
        connection
    }
}

impl Connection {
    pub(crate) async fn request(&mut self) -> Request {
        let Some(Ok(Message::Text(text))) = self.socket.next().await else {
            panic!("a request comes")
        };
        match decode_client_frame(text.as_bytes()).unwrap().remove(0) {
            Element::Request(request) => request,
            Element::Refused { error, .. } => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a binary frame, which no server does.
    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// Sends a text without a size limit. The client may close before it is complete.
    pub(crate) async fn send_huge(&mut self, text: String) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    pub(crate) async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    /// Reads until the client closes, and returns the code of its close frame.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Close(Some(frame)) = message {
                code = Some(frame.code.into());
            }
        }
        code
    }
}
