// A process that lives for a moment: opens sockets where it stands (in another network namespace, say) and hands them to
// its parent. Only one process can open a socket in a namespace without entering it for good.

import { CodedError, errorMessage } from '../lib/errors.ts'
import { openSocket, type SocketSpec } from './raw-socket.ts'

export type OpenerMessage =
  | { readonly kind: 'opened'; readonly name: string }
  | { readonly kind: 'failed'; readonly name: string; readonly message: string; readonly code: string }

/** The opener's whole life: the sockets named on its command line, one message each; it ends when its parent has them all. */
export async function runOpener(specs: readonly SocketSpec[]): Promise<void> {
  // The parent says so: a handle that is still on its way would be lost with this process. Listening keeps the channel open.
  const done = new Promise((resolve) => process.once('message', resolve))
  for (const spec of specs) {
    try {
      const handle = await openSocket(spec)
      await send({ kind: 'opened', name: spec.name }, handle)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : ''
      await send({ kind: 'failed', name: spec.name, message: errorMessage(error), code })
    }
  }
  await done
  process.disconnect()
}

function send(message: OpenerMessage, handle?: Awaited<ReturnType<typeof openSocket>>): Promise<void> {
  return new Promise((resolve, reject) => {
    if (!process.send) throw new CodedError('NO_PARENT', 'this command is for swarmd-net itself')
    process.send(message, handle, {}, (error) => (error ? reject(error) : resolve()))
  })
}
