// The certificate authority's place on the control port.

import type { Log } from '../../lib/log.ts'
import { serveCa } from '../../manager/ca/ca-routes.ts'
import type { CertificateAuthority } from '../../manager/ca/certificate-authority.ts'
import type { ControlPort } from '../control-port.ts'

/** Serves `/ca/…` to anyone: a node that joins has no certificate yet. @returns ends it */
export function serveCaOn(port: ControlPort, authority: CertificateAuthority, log: Log): () => void {
  return port.onRequest('/ca/', 'anyone', {
    request: (message, response, client) =>
      serveCa(authority, log, message, response, {
        identity: client,
        remoteHost: message.socket.remoteAddress?.replace(/^::ffff:/, '') ?? '',
      }),
  })
}
