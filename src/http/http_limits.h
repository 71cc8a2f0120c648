// SPDX-License-Identifier: MIT
// Every limit and time-out of the HTTP server, in one place. Those with a Node name can be set per server
// (struct pando_server_options, where 0 means the value here).
#pragma once

// Sizes and counts
#define LIMIT_HEADER_BYTES (16 * 1024)           // maxHeaderSize: request line and fields; more is 431
#define LIMIT_HEADER_BYTES_MAX (60 * 1024)       // what an option may raise it to: offsets in a head are 16 bits
#define LIMIT_HEADER_COUNT 128                   // maxHeadersCount: more is 431 (Node drops silently)
#define LIMIT_HEADER_COUNT_MAX 256               // what an option may raise it to
#define LIMIT_TARGET_BYTES 8192                  // more is 414
#define LIMIT_METHOD_BYTES 32                    // more is 501
#define LIMIT_EMPTY_LINES 4                      // empty lines swallowed before a request line
#define LIMIT_CHUNK_EXTENSION_BYTES (16 * 1024)  // a whole body's; more is 413
#define LIMIT_CHUNK_SIZE_DIGITS 15
#define LIMIT_TRAILER_BYTES (8 * 1024)            // more is 431
#define LIMIT_BODY_BYTES (1024 * 1024)            // maxBodySize: of a request; more is 413. Handlers may raise it for themselves
#define LIMIT_DISCARD_BYTES (256 * 1024)          // unread request body that is read away to keep a connection
#define LIMIT_LINGER_BYTES (1024 * 1024)          // read and thrown away after a refusal
#define LIMIT_EXCHANGE_BYTES (64u * 1024 * 1024)  // a request's arena
#define LIMIT_ACCEPT_BURST 64                     // connections taken in one wake-up of a listener
#define LIMIT_INPUT_BLOCK (64 * 1024)             // a read buffer; a connection owns one only while something waits in it
#define LIMIT_OUTPUT_BLOCK (64 * 1024)            // a write buffer, likewise: the high-water mark of an answer
#define LIMIT_OUTPUT_COPY (16 * 1024)             // a body up to this size is copied behind its head, a larger one is sent from its place
#define LIMIT_BLOCKS_IDLE 64                      // free blocks a server keeps
#define LIMIT_EXCHANGES_IDLE 256                  // free exchanges a server keeps

// Time, in milliseconds
#define LIMIT_HEADERS_MS 60000          // headersTimeout: from a request's first byte to the end of its head; 408
#define LIMIT_REQUEST_MS 300000         // requestTimeout: from a request's first byte to the end of its body; 408
#define LIMIT_KEEP_ALIVE_MS 65000       // keepAliveTimeout: waiting for the next request
#define LIMIT_KEEP_ALIVE_EXTRA_MS 1000  // hidden, so that the client's timer ends first
#define LIMIT_HANDLER_MS 120000         // handlerTimeout: from the end of the head to the answer's head; 503
#define LIMIT_STALL_MS 30000            // grace of a slow body or a slow reader, and the longest silence of either
#define LIMIT_RATE_BYTES_S 240          // what a body or a reader must do after that grace, on average
#define LIMIT_LINGER_MS 5000            // after a refusal, until the client has closed
#define LIMIT_DISCARD_MS 10000          // for the rest of a body nobody read
#define LIMIT_DRAIN_IDLE_MS 1000        // a closing server still answers an idle connection's next request this long
#define LIMIT_ACCEPT_PAUSE_MS 100       // when accept is out of descriptors or memory
#define LIMIT_TICK_MS 250               // resolution of all of these
