//! The server-server API over HTTP, and the dispatcher that sends transactions.
//!
//! Nothing is served yet: the client API's table of endpoints knows the paths, so that they answer 404 and a wrong method 405. The way in for
//! what other servers send is `rooms::Room::receive`, which is there and tested.
