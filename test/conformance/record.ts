// Records what a real dockerd answers: node record.js SOCKET > test/conformance/recorded-20.10.json
// SOCKET is of an engine of that version that is in no swarm and may be put into one (a lab host's).

import { ask } from '../support/api-client.ts'
import { exchange } from './exchange.ts'

const [socket = ''] = process.argv.slice(2)
const answers = await exchange(socket)
await ask(socket, 'POST', '/swarm/leave?force=1')
process.stdout.write(`${JSON.stringify(answers, null, 1)}\n`)
