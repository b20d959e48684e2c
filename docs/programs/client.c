/*
 * A TLS 1.3 client whose key stays in the TPM: wardd signs for it over the local
 * socket. client HOST PORT ROOTS [SOCKET]: connects, proves the device with the
 * service identity, sends one request and prints the answer.
 *
 *     gcc -Wall -o client client.c -lssl -lcrypto
 *
 * It is tried with OpenSSL 3.0, and needs membership in the group of the socket.
 */
#define OPENSSL_API_COMPAT 0x10101000L /* EC_KEY_METHOD; OpenSSL 3 has it, and calls it old */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

enum { MAX_ANSWER = 65536, SHA256_SIZE = 32, MAX_SIGNATURE = 80 };

static const char *socket_path = "/run/ward/wardd.sock";

static void die(const char *what)
{
	fprintf(stderr, "client: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/* ask sends a request to wardd and returns the body of its answer, or NULL. */
static char *ask(const char *request)
{
	static char answer[MAX_ANSWER + 1];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t sent = 0, got = 0, size = strlen(request);
	ssize_t n = 1;
	char *body;
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(socket_path) >= sizeof address.sun_path)
		die("the socket's path is too long");
	strcpy(address.sun_path, socket_path);
	if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof address) < 0) {
		fprintf(stderr, "client: connect to %s: %s\n", socket_path, strerror(errno));
		if (s >= 0)
			close(s);
		return NULL;
	}
	for (; sent < size && n > 0; sent += n > 0 ? n : 0)
		n = write(s, request + sent, size - sent);
	while (got < MAX_ANSWER && (n = read(s, answer + got, MAX_ANSWER - got)) > 0)
		got += n;
	close(s);
	answer[got] = 0;
	body = strstr(answer, "\r\n\r\n");
	if (!body || got < 12 || strncmp(answer + 8, " 200", 4)) {
		fprintf(stderr, "client: wardd refuses: %.12s: %s\n", answer, body ? body + 4 : "");
		return NULL;
	}
	return body + 4;
}

/* value returns the text of a key of a JSON object, its line breaks restored. */
static char *value(char *json, const char *key)
{
	char *from = json ? strstr(json, key) : NULL, *to, *text;

	if (!from || !(from = strchr(from + strlen(key), '"')))
		return NULL;
	for (text = to = ++from; *from && *from != '"'; from++)
		if (from[0] == '\\' && from[1] == 'n')
			*to++ = '\n', from++;
		else
			*to++ = *from;
	if (!*from)
		return NULL;
	*to = 0;
	return text;
}

/* sign_sig is called by OpenSSL for every signature of the key. */
static ECDSA_SIG *sign_sig(const unsigned char *digest, int size, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key)
{
	char text[64], body[128], request[512], *answer;
	unsigned char der[MAX_SIGNATURE * 2];
	const unsigned char *p = der;
	int n;

	if (size != SHA256_SIZE)
		return NULL; /* the key signs SHA-256 alone */
	EVP_EncodeBlock((unsigned char *)text, digest, size);
	snprintf(body, sizeof body, "{\"use\":\"service\",\"digest\":\"%s\"}", text);
	snprintf(request, sizeof request, "POST /v1/identity/sign HTTP/1.0\r\nHost: wardd\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	answer = value(ask(request), "\"signature\":");
	if (!answer || strlen(answer) > MAX_SIGNATURE * 4 / 3 || (n = EVP_DecodeBlock(der, (unsigned char *)answer, strlen(answer))) < 0)
		return NULL;
	return d2i_ECDSA_SIG(NULL, &p, n); /* reads its own length: padding stays behind it */
}

/* identity puts chain and key of the service identity into the context. */
static void identity(SSL_CTX *ctx)
{
	char *pem = value(ask("GET /v1/identity/chain?use=service HTTP/1.0\r\nHost: wardd\r\n\r\n"), "\"chain\":");
	BIO *b = BIO_new_mem_buf(pem ? pem : "", -1);
	X509 *leaf = PEM_read_bio_X509(b, NULL, NULL, NULL), *above;
	EC_KEY *key = leaf ? EVP_PKEY_get1_EC_KEY(X509_get0_pubkey(leaf)) : NULL;
	EC_KEY_METHOD *method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	EVP_PKEY *pkey = EVP_PKEY_new();
	int (*sign)(int, const unsigned char *, int, unsigned char *, unsigned int *, const BIGNUM *, const BIGNUM *, EC_KEY *);
	int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **);

	if (!key || !method || !pkey)
		die("wardd gives no certificate of the service identity");
	EC_KEY_METHOD_get_sign(method, &sign, &setup, NULL);
	EC_KEY_METHOD_set_sign(method, sign, setup, sign_sig);
	if (!EC_KEY_set_method(key, method) || !EVP_PKEY_assign_EC_KEY(pkey, key) ||
	    !SSL_CTX_use_certificate(ctx, leaf) || !SSL_CTX_use_PrivateKey(ctx, pkey))
		die("use the service identity");
	while ((above = PEM_read_bio_X509(b, NULL, NULL, NULL)))
		SSL_CTX_add_extra_chain_cert(ctx, above);
	ERR_clear_error(); /* the end of the chain */
	BIO_free(b);
}

int main(int argc, char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char address[300], answer[1024];
	BIO *b;
	SSL *ssl;
	int n;

	if (argc < 4)
		die("usage: client HOST PORT ROOTS [SOCKET]");
	if (argc > 4)
		socket_path = argv[4];
	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) || !SSL_CTX_load_verify_locations(ctx, argv[3], NULL))
		die("read the server's roots");
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	identity(ctx);
	b = BIO_new_ssl_connect(ctx);
	snprintf(address, sizeof address, "%s:%s", argv[1], argv[2]);
	BIO_set_conn_hostname(b, address);
	BIO_get_ssl(b, &ssl);
	if (!SSL_set1_host(ssl, argv[1]) || !SSL_set_tlsext_host_name(ssl, argv[1]) || BIO_do_handshake(b) <= 0)
		die("connect to the server");
	BIO_printf(b, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
	while ((n = BIO_read(b, answer, sizeof answer)) > 0)
		fwrite(answer, 1, n, stdout);
	BIO_free_all(b);
	return ERR_peek_error() ? 1 : 0;
}
