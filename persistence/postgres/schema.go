package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// schema is what the tables of a database are like, as far as statements
// depend on it.
type schema struct {
	columns map[string]map[string]string // by table: column to type
	// keyPackages is the table of key packages, and oldHash whether its hashes
	// are by somebody else.
	keyPackages string
	oldHash     bool
}

func (s schema) has(table, column string) bool { return s.columns[table][column] != "" }

func (s schema) hasText(table, column string) bool {
	t := s.columns[table][column]
	return t == "text" || len(t) >= 17 && t[:17] == "character varying"
}

// columnsSQL lists the columns of a table as the search path finds it.
const columnsSQL = `
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
FROM pg_attribute a
WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped`

// inspect looks at the tables.
func (s *Store) inspect(ctx context.Context) (schema, error) {
	tables := []string{"conversations", "members", "messages", "welcome_messages", "key_packages"}
	sch := schema{}
	required := map[string][]string{}
	err := s.flight(ctx, s.main, "look at the tables", reads, func(b *pgx.Batch) {
		sch.columns = map[string]map[string]string{}
		for _, table := range tables {
			columns := map[string]string{}
			sch.columns[table] = columns
			required[table] = nil
			b.Queue(columnsSQL, table).Query(each(func(rows pgx.Rows) error {
				var name, typ string
				var must bool
				if err := rows.Scan(&name, &typ, &must); err != nil {
					return err
				}
				columns[name] = typ
				if must {
					required[table] = append(required[table], name)
				}
				return nil
			}))
		}
	})
	if err != nil {
		return schema{}, err
	}
	sch.keyPackages = "catbird_key_packages"
	if fit(sch.columns["key_packages"], required["key_packages"]) {
		sch.keyPackages, sch.oldHash = "key_packages", true
	}
	return sch, nil
}

// oldKeyPackages are the columns of the form of key_packages that we can use.
var oldKeyPackages = map[string][]string{
	"id":               {"integer", "bigint"},
	"did":              {"text"},
	"cipher_suite":     {"text"},
	"key_data":         {"bytea"},
	"key_package_hash": {"text"},
	"created_at":       {"timestamp with time zone"},
	"expires_at":       {"timestamp with time zone"},
	"consumed":         {"boolean"},
	"consumed_at":      {"timestamp with time zone"},
}

// fit reports whether a table key_packages is of the old form: it has the
// columns, and demands no others.
func fit(columns map[string]string, required []string) bool {
	for name, types := range oldKeyPackages {
		if !slices.Contains(types, columns[name]) {
			return false
		}
	}
	for _, name := range required {
		if _, ok := oldKeyPackages[name]; !ok || name == "consumed_at" || name == "id" {
			return false
		}
	}
	return true
}

// keyPackagesFit asks a database that is being migrated.
func keyPackagesFit(ctx context.Context, conn *sql.Conn) (bool, error) {
	rows, err := conn.QueryContext(ctx, columnsSQL, "key_packages")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	columns, required := map[string]string{}, []string(nil)
	for rows.Next() {
		var name, typ string
		var must bool
		if err := rows.Scan(&name, &typ, &must); err != nil {
			return false, err
		}
		columns[name] = typ
		if must {
			required = append(required, name)
		}
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("look at key_packages: %w", err)
	}
	return fit(columns, required), nil
}
