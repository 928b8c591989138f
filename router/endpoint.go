package router

import (
	"net/http"
	"reflect"

	"catbird/conversation"
	"catbird/router/wire"
)

// Prefix is what the names of all methods begin with.
const Prefix = "blue.catbird.mls."

// endpoint is one method of the API.
type endpoint struct {
	name   string // without Prefix
	op     conversation.Op
	method string // of HTTP
	// maxBody is how long the body may be, in bytes.
	maxBody int64
	// in and out describe the input and output, for those who document them.
	in, out reflect.Type
	serve   func(rt *Router, c *call) (any, error)
}

func (e *endpoint) nsid() string { return Prefix + e.name }

// Operations that are no commands of package conversation.
const (
	opGetCommits     conversation.Op = "get_commits"
	opGetConvos      conversation.Op = "get_convos"
	opGetWelcome     conversation.Op = "get_welcome"
	opConfirmWelcome conversation.Op = "confirm_welcome"
	opGetKeyPackages conversation.Op = "get_key_packages"
	opUnknown        conversation.Op = "unknown"
)

// How long bodies may be: as much as the largest MLS objects that an endpoint
// takes need as base64, with room for escapes and the other fields.
const (
	bodyOther      = 64 << 10
	bodyKeyPackage = conversation.MaxKeyPackage*3/2 + bodyOther
	bodyMessage    = conversation.MaxMessage*7/5 + bodyOther
	bodyCommit     = conversation.MaxCommit*7/5 + bodyOther
	bodyMembers    = (conversation.MaxCommit+conversation.MaxWelcome)*7/5 + 4*bodyOther
)

// endpoints is the API.
func endpoints() []endpoint {
	return []endpoint{
		procedure("createConvo", conversation.OpCreate, bodyMembers, (*Router).createConvo),
		procedure("addMembers", conversation.OpAddMembers, bodyMembers, (*Router).addMembers),
		procedure("leaveConvo", conversation.OpLeave, bodyCommit, (*Router).leaveConvo),
		procedure("commit", conversation.OpCommit, bodyCommit, (*Router).commit),
		procedure("sendMessage", conversation.OpSend, bodyMessage, (*Router).sendMessage),
		query("getMessages", conversation.OpGetMessages, (*Router).getMessages),
		query("getEpoch", conversation.OpGetEpoch, (*Router).getEpoch),
		query("getCommits", opGetCommits, (*Router).getCommits),
		query("getConvos", opGetConvos, (*Router).getConvos),
		query("getWelcome", opGetWelcome, (*Router).getWelcome),
		procedure("confirmWelcome", opConfirmWelcome, bodyOther, (*Router).confirmWelcome),
		procedure("publishKeyPackage", conversation.OpPublishKeyPackage, bodyKeyPackage, (*Router).publishKeyPackage),
		query("getKeyPackages", opGetKeyPackages, (*Router).getKeyPackages),
	}
}

// unknownMethod and wrongVerb answer what is no endpoint.
var (
	unknownMethod = endpoint{op: opUnknown, serve: func(*Router, *call) (any, error) {
		return nil, conversation.Refuse(conversation.MethodNotFound, "there is no such method")
	}}
	wrongVerb = endpoint{op: opUnknown, serve: func(_ *Router, c *call) (any, error) {
		return nil, conversation.Refuse(conversation.InvalidRequest, "this method is not called with %s, but with %s",
			verb(c.request.Method), c.writer.Header().Get("Allow"))
	}}
)

// verb returns the name of an HTTP method for use in a message.
func verb(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "this HTTP method"
	}
}

// query describes a method that is called with GET and parameters.
func query[In, Out any](name string, op conversation.Op, f func(*Router, *call, *In) (Out, error)) endpoint {
	input := wire.NewQuery[In]()
	return endpoint{
		name: name, op: op, method: http.MethodGet,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		serve: func(rt *Router, c *call) (any, error) {
			in := new(In)
			if err := input.Decode(c.request.URL.RawQuery, in); err != nil {
				return nil, err
			}
			return f(rt, c, in)
		},
	}
}

// procedure describes a method that is called with POST and a JSON body.
func procedure[In, Out any](name string, op conversation.Op, maxBody int64, f func(*Router, *call, *In) (Out, error)) endpoint {
	input := wire.NewBody[In]()
	return endpoint{
		name: name, op: op, method: http.MethodPost, maxBody: maxBody,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		serve: func(rt *Router, c *call) (any, error) {
			in := new(In)
			err := rt.withBody(c, func(body []byte) error { return input.Decode(body, in) })
			if err != nil {
				return nil, err
			}
			c.changing = true
			return f(rt, c, in)
		},
	}
}

// stored is an output that was encoded before: the answer that was stored with
// a request, of the form T.
type stored[T any] struct{ json []byte }

func (s stored[T]) encoded() []byte { return s.json }

// form returns the type whose form the output has.
func (stored[T]) form() reflect.Type { return reflect.TypeFor[T]() }
