// The one table that says which HTTP status each layer's error codes get, as Docker maps them.

import { errorCode } from '../lib/errors.ts'

const STATUS: Readonly<Record<string, number>> = {
  // the API's own
  INVALID_JSON: 400,
  INVALID_PARAMETER: 400,
  CLIENT_VERSION: 400,
  BODY_TOO_LARGE: 413,
  PAGE_NOT_FOUND: 404,
  NO_SUCH_OBJECT: 404,
  AMBIGUOUS: 400,
  FORBIDDEN: 403,
  CONFLICT: 409,
  ENGINE_UNREACHABLE: 503,
  ENGINE_IN_SWARM_MODE: 503,
  // a manager's, as its gRPC codes
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
  UNKNOWN: 500,
  // the store's refusals, where a handler has no text of its own
  OUT_OF_SEQUENCE: 500,
  EXISTS: 409,
  NAME_CONFLICT: 409,
  PORT_CONFLICT: 400,
  ADDRESS_CONFLICT: 409,
  VNI_CONFLICT: 409,
  NODE_NUMBER_CONFLICT: 409,
  RESOURCES_CONFLICT: 409,
  IN_USE: 400,
  FEATURE_LEVEL: 501,
  MALFORMED: 400,
  TRANSACTION_TOO_LARGE: 413,
  // membership of this node
  NOT_IN_SWARM: 503,
  NOT_MANAGER: 503,
  SWARM_EXISTS: 503,
  SWARM_LOCKED: 503,
  NOT_LOCKED: 409,
  INVALID_UNLOCK_KEY: 401,
  // consensus
  NOT_LEADER: 503,
  NO_LEADER: 503,
  PROPOSAL_DROPPED: 503,
  PROPOSAL_UNKNOWN: 503,
  PROPOSAL_QUEUE_FULL: 503,
  // identity: tokens, certificates, addresses
  INVALID_JOIN_TOKEN: 400,
  ROOT_MISMATCH: 400,
  REQUEST_INVALID: 400,
  INVALID_ADDRESS: 400,
  CERTIFICATE_INVALID: 500,
  IDENTITY_UNREADABLE: 500,
  CLUSTER_FULL: 409,
  NO_CLUSTER: 503,
  NO_MANAGER: 503,
  NO_ROOT_KEY: 503,
  LISTEN_FAILED: 500,
  // connections between nodes
  CONNECTION_LOST: 503,
  CONNECTION_ABORTED: 503,
  CONNECTION_REFUSED: 503,
  CONNECTION_TIMEOUT: 503,
  CONNECTION_UNTRUSTED: 503,
  CONNECTION_FORBIDDEN: 403,
  CONNECTION_CLOSED: 503,
  CONNECTION_FULL: 503,
}

/** HTTP status of any thrown value; 500 for what has no code or one that is not in the table. */
export function httpStatus(error: unknown): number {
  const code = errorCode(error)
  return (code === undefined ? undefined : STATUS[code]) ?? 500
}
