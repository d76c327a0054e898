#!/bin/sh
# openssl: digests, ciphers, keys, signatures, certificates, a server and a client, and its measurement.
exec 2>&1
seq 10000 >data
for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 shake128 blake2b512 blake2s256 sm3; do openssl dgst -$digest data; done
openssl dgst -sha256 -hmac key data; openssl dgst -sha256 -mac cmac -macopt cipher:aes-128-cbc -macopt hexkey:00112233445566778899aabbccddeeff data 2>/dev/null | head -c 0; openssl mac -cipher AES-128-CBC -macopt hexkey:00112233445566778899aabbccddeeff -in data CMAC
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f iv=0102030405060708090a0b0c0d0e0f10
for cipher in aes-128-cbc aes-256-cbc aes-256-ctr aes-128-ecb aes-256-ofb camellia-256-cbc chacha20 aria-256-cbc des-ede3-cbc sm4-cbc; do
    size=64; case $cipher in *128*|sm4*) size=32 ;; des*) size=48 ;; esac
    short=$(echo $key | cut -c1-$size); v=$iv; case $cipher in des*) v=$(echo $iv | cut -c1-16) ;; esac
    case $cipher in *ecb) v= ;; esac
    openssl enc -$cipher -K "$short" ${v:+-iv $v} -in data -out enc && cksum <enc && openssl enc -d -$cipher -K "$short" ${v:+-iv $v} -in enc | cmp - data && echo "$cipher back"
done
openssl enc -aes-256-cbc -pbkdf2 -salt -S 0102030405060708 -pass pass:word -a -in data | cksum; openssl enc -aes-256-cbc -pbkdf2 -pass pass:word -in data | openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:word | cmp - data && echo "by password"; openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:wrong -in enc >/dev/null 2>&1; echo $?
openssl genrsa -out rsa.pem 2048 2>/dev/null; openssl rsa -in rsa.pem -pubout -out rsa.pub 2>/dev/null; openssl rsa -in rsa.pem -check -noout
openssl ecparam -name prime256v1 -genkey -noout -out ec.pem; openssl ec -in ec.pem -pubout -out ec.pub 2>/dev/null
openssl genpkey -algorithm ed25519 -out ed.pem; openssl pkey -in ed.pem -pubout -out ed.pub; openssl genpkey -algorithm x25519 -out x1.pem; openssl genpkey -algorithm x25519 -out x2.pem; openssl pkey -in x1.pem -pubout -out x1.pub; openssl pkey -in x2.pem -pubout -out x2.pub
for name in rsa ec; do openssl dgst -sha256 -sign $name.pem -out sig data && openssl dgst -sha256 -verify $name.pub -signature sig data; echo x | openssl dgst -sha256 -verify $name.pub -signature sig 2>/dev/null; done
openssl pkeyutl -sign -inkey ed.pem -rawin -in data -out sig && openssl pkeyutl -verify -pubin -inkey ed.pub -rawin -in data -sigfile sig
openssl dgst -sha256 -sign rsa.pem -sigopt rsa_padding_mode:pss -out sig data && openssl dgst -sha256 -verify rsa.pub -sigopt rsa_padding_mode:pss -signature sig data
echo secret | openssl pkeyutl -encrypt -pubin -inkey rsa.pub -pkeyopt rsa_padding_mode:oaep | openssl pkeyutl -decrypt -inkey rsa.pem -pkeyopt rsa_padding_mode:oaep
openssl pkeyutl -derive -inkey x1.pem -peerkey x2.pub -out s1; openssl pkeyutl -derive -inkey x2.pem -peerkey x1.pub -out s2; cmp s1 s2 && echo "the same secret"
openssl req -x509 -key rsa.pem -subj /CN=CA -days 30 -out ca.pem; openssl req -new -key ec.pem -subj /CN=localhost -out req.pem; openssl x509 -req -in req.pem -CA ca.pem -CAkey rsa.pem -set_serial 7 -days 20 -out cert.pem; openssl verify -CAfile ca.pem cert.pem; openssl verify cert.pem; echo $?; openssl x509 -in cert.pem -noout -subject -issuer -serial
openssl pkcs12 -export -in cert.pem -inkey ec.pem -passout pass:p -out p12 && openssl pkcs12 -in p12 -passin pass:p -nokeys 2>/dev/null | grep -c BEGIN; openssl cms -encrypt -binary -in data -outform DER -out cms cert.pem 2>/dev/null || openssl cms -encrypt -binary -in data -outform DER -out cms ca.pem; openssl cms -decrypt -in cms -inform DER -inkey ec.pem -recip cert.pem 2>/dev/null | cmp - data && echo "cms back"
openssl asn1parse -genstr UTF8:text; openssl prime 65537; openssl prime -generate -bits 64 | wc -l; openssl rand -hex 8 | wc -c; openssl passwd -6 -salt salt word; openssl kdf -keylen 16 -kdfopt digest:SHA256 -kdfopt key:secret -kdfopt salt:salt HKDF; openssl list -digest-algorithms | grep -c SHA; openssl errstr 0480006C; openssl ciphers -s -tls1_3
openssl s_server -accept 9443 -cert cert.pem -key ec.pem -CAfile ca.pem -www >server.log 2>&1 & server=$!
try() { for n in $(seq 100); do printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect 127.0.0.1:9443 -CAfile ca.pem -verify_return_error -ign_eof "$@" >got 2>/dev/null && break; sleep 0.1; done; grep -E '^ *(HTTP/1|Cipher *: |Verify return code)' got | sort -u; }
try -tls1_3; try -tls1_2; try -tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256; kill $server; wait $server 2>/dev/null; echo "server ended with $?"
openssl speed -seconds 1 -bytes 1024 sha256 aes-128-cbc 2>/dev/null | grep -cE '^(sha256|aes-128-cbc)'; openssl speed -seconds 1 -evp aes-256-gcm -bytes 4096 2>/dev/null | grep -ci '^aes-256-gcm'; openssl speed -seconds 1 ecdsap256 2>/dev/null | grep -c 'nistp256'; openssl speed -seconds 1 -multi 2 -bytes 64 sha1 2>/dev/null | grep -c '^sha1'
rm -f got data enc sig s1 s2 p12 cms ./*.pem ./*.pub server.log
